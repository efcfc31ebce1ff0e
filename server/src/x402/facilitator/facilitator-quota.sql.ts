import type { Sql } from '../../db/index.ts';

/** An environment, and how many payments it has claimed on the day. */
interface Usage {
  environmentId: string;
  settlements: number;
}

/**
 * How many payments these environments have claimed on the day (UTC). Holds their rows until the transaction ends, in their order, so that
 * nobody claims for them meanwhile: to be asked for before the payers' rows, everywhere.
 */
export async function lockUsage(
  sql: Sql,
  environmentIds: readonly string[],
  now: Date,
): Promise<Map<string, number>> {
  const args = [environmentIds, dayOf(now)];
  const [, rows] = await Promise.all([
    sql.query(
      `INSERT INTO facilitator_usage (environment_id, day, settlements)
       SELECT DISTINCT k, $2::date, 0 FROM unnest($1::text[]) k ORDER BY 1 ON CONFLICT DO NOTHING`,
      args,
    ),
    sql.query<Usage>(
      `SELECT environment_id, settlements FROM facilitator_usage
       WHERE environment_id = ANY ($1::text[]) AND day = $2::date ORDER BY environment_id FOR UPDATE`,
      args,
    ),
  ]);
  return new Map(rows.map(({ environmentId, settlements }) => [environmentId, settlements]));
}

/**
 * Counts claims by their environments, in the transaction that has their rows and makes the claims, so that the count is exact. What
 * was claimed stays counted whatever becomes of it: else payments that fail after they are sent would burn gas without end.
 */
export async function countClaims(sql: Sql, environmentIds: readonly string[], now: Date): Promise<void> {
  await sql.query(
    `UPDATE facilitator_usage u SET settlements = u.settlements + k.claims
     FROM (SELECT environment_id, count(*)::int AS claims FROM unnest($1::text[]) AS one (environment_id) GROUP BY 1) k
     WHERE u.environment_id = k.environment_id AND u.day = $2::date`,
    [environmentIds, dayOf(now)],
  );
}

function dayOf(now: Date): string {
  return now.toISOString().slice(0, 10);
}
