import type { Sql } from '../../db/index.ts';
import type { Payment } from '../payments/payment.ts';

/** A payment that counts against its environment's quota, and how many that has a day. */
export interface CountedClaim {
  payment: Payment;
  perDay: number;
}

/**
 * Counts claims against their environments' quotas of the day (UTC), in their order; gives the ids of those that are beyond. To be
 * called in the transaction that claims them, so that the count is exact. What was claimed stays counted whatever becomes of it:
 * else payments that fail after they are sent would burn gas without end.
 */
export async function countClaims(
  sql: Sql,
  claims: readonly CountedClaim[],
  now: Date,
): Promise<Set<string>> {
  const beyond = new Set<string>();
  const byEnvironment = Map.groupBy(claims, ({ payment }) => payment.environmentId);
  // In one order everywhere, so that no two transactions wait for each other.
  for (const environmentId of [...byEnvironment.keys()].toSorted()) {
    const ofOne = byEnvironment.get(environmentId) ?? [];
    const day = now.toISOString().slice(0, 10);
    const used = await lockUsage(sql, environmentId, day);
    let counted = used;
    for (const { payment, perDay } of ofOne) {
      if (counted < perDay) counted += 1;
      else beyond.add(payment.id);
    }
    if (counted > used) await setUsage(sql, environmentId, day, counted);
  }
  return beyond;
}

async function lockUsage(sql: Sql, environmentId: string, day: string): Promise<number> {
  await sql.query(
    `INSERT INTO facilitator_usage (environment_id, day, settlements) VALUES ($1, $2::date, 0) ON CONFLICT DO NOTHING`,
    [environmentId, day],
  );
  const [row] = await sql.query<{ settlements: number }>(
    'SELECT settlements FROM facilitator_usage WHERE environment_id = $1 AND day = $2::date FOR UPDATE',
    [environmentId, day],
  );
  return row?.settlements ?? 0;
}

async function setUsage(sql: Sql, environmentId: string, day: string, settlements: number): Promise<void> {
  await sql.query(
    'UPDATE facilitator_usage SET settlements = $3 WHERE environment_id = $1 AND day = $2::date',
    [environmentId, day, settlements],
  );
}
