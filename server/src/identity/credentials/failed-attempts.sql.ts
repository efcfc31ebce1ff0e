import { deleteInBatches, type Scope, type Sql } from '../../db/index.ts';
import { type AgentId, isAgentId, isId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';

/** How often it failed, and when last. */
export interface FailureCount {
  key: string;
  count: number;
  lastAt: Date;
}

/** Adds failures to what all processes count, and gives what that has become. Each key once. */
export async function countFailures(sql: Sql, rows: readonly FailureCount[]): Promise<FailureCount[]> {
  return sql.query<FailureCount>(
    // In one order, so that two processes don't wait for each other's in a ring.
    `INSERT INTO failed_attempts AS f (key, count, last_at)
     SELECT * FROM unnest($1::text[], $2::int[], $3::timestamptz[]) AS given (key, count, last_at) ORDER BY key
     ON CONFLICT (key) DO UPDATE SET last_at = greatest(f.last_at, excluded.last_at), count = excluded.count
       + CASE WHEN f.last_at <= excluded.last_at - make_interval(secs => $4) THEN 0 ELSE f.count END
     RETURNING key, count, last_at`,
    [
      rows.map(({ key }) => key),
      rows.map(({ count }) => count),
      rows.map(({ lastAt }) => lastAt),
      limits.guessMemorySeconds,
    ],
  );
}

export async function findFailures(sql: Sql, keys: readonly string[]): Promise<FailureCount[]> {
  return sql.query<FailureCount>('SELECT key, count, last_at FROM failed_attempts WHERE key = ANY($1)', [
    keys,
  ]);
}

export async function forgetFailures(sql: Sql, keys: readonly string[]): Promise<void> {
  await sql.query('DELETE FROM failed_attempts WHERE key = ANY($1)', [keys]);
}

export async function sweepFailures(sql: Sql, before: Date): Promise<void> {
  await deleteInBatches(sql, { table: 'failed_attempts', condition: 'last_at <= $1', values: [before] });
}

/** Whom a refused caller said it was, and where the events of that agent go. */
export interface Accused {
  name: string;
  agentId: AgentId;
  /** Its home, or else the first environment that was linked to it; nothing where it has neither. */
  environmentId: Scope | null;
}

/** The agents of these names, `cid_…` or bare ids; of those that aren't there, nothing. */
export async function findAccused(sql: Sql, names: readonly string[]): Promise<Accused[]> {
  const rows = await sql.query<Omit<Accused, 'name'> & { clientId: string }>(
    `SELECT a.id AS agent_id, a.client_id, coalesce(a.home_environment_id, (
         SELECT l.environment_id FROM agent_links l WHERE l.agent_id = a.id
         ORDER BY l.created_at, l.environment_id LIMIT 1)) AS environment_id
     FROM agents a WHERE a.deleted_at IS NULL AND (a.id = ANY($1::uuid[]) OR a.client_id = ANY($2))`,
    [names.filter((name) => isAgentId(name)), names.filter((name) => isId('client', name))],
  );
  return rows.flatMap(({ clientId, ...row }) =>
    [clientId, row.agentId].filter((name) => names.includes(name)).map((name) => ({ ...row, name })),
  );
}

/** Adds refusals to those that are counted by agent, and gives how many they are now. Each agent once. */
export async function countRefusals(
  sql: Sql,
  rows: readonly { agentId: string; scope: Scope; count: number }[],
  now: Date,
): Promise<{ agentId: string; count: number }[]> {
  return sql.query<{ agentId: string; count: number }>(
    `INSERT INTO counted_refusals AS r (agent_id, environment_id, count, began_at)
     SELECT *, $4::timestamptz FROM unnest($1::text[], $2::text[], $3::int[]) AS given (agent_id, environment_id, count)
     ORDER BY agent_id
     ON CONFLICT (agent_id) DO UPDATE SET count = r.count + excluded.count RETURNING agent_id, count`,
    [rows.map(({ agentId }) => agentId), rows.map(({ scope }) => scope), rows.map(({ count }) => count), now],
  );
}

/** Takes so many at most of those that began before; two workers never take the same. */
export async function takeRefusals(
  sql: Sql,
  before: Date,
  limit: number,
): Promise<{ agentId: string; environmentId: Scope; count: number }[]> {
  return sql.query<{ agentId: string; environmentId: Scope; count: number }>(
    `DELETE FROM counted_refusals WHERE agent_id IN (
       SELECT agent_id FROM counted_refusals WHERE began_at <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)
     RETURNING agent_id, environment_id, count`,
    [before, limit],
  );
}
