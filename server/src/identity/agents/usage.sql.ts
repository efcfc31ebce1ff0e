import type { Sql } from '../../db/index.ts';
import type { AgentId } from '../../kernel/ids.ts';

/** What one agent did on one day (UTC), as a process has counted it since its last flush. */
export interface UsageRow {
  agentId: AgentId;
  /** `YYYY-MM-DD`. */
  day: string;
  tokens: number;
  refreshes: number;
  requests: number;
  lastTokenAt: Date | null;
  lastActiveAt: Date;
}

/** An agent's totals; counts of the last seconds may be missing. */
export interface UsageTotals {
  tokens: bigint;
  refreshes: bigint;
  requests: bigint;
  lastTokenAt: Date | null;
  lastActiveAt: Date | null;
}

/** Adds counts to the days and to the totals. In the order of ids, so that two processes don't wait for each other in a ring. */
export async function addUsage(sql: Sql, rows: readonly UsageRow[]): Promise<void> {
  const values = [
    rows.map((row) => row.agentId),
    rows.map((row) => row.day),
    rows.map((row) => row.tokens),
    rows.map((row) => row.refreshes),
    rows.map((row) => row.requests),
  ];
  // Who has been deleted meanwhile is left out.
  await sql.query(
    `INSERT INTO agent_usage_days (agent_id, day, tokens, refreshes, requests)
     SELECT u.* FROM unnest($1::uuid[], $2::date[], $3::bigint[], $4::bigint[], $5::bigint[])
       AS u (agent_id, day, tokens, refreshes, requests) JOIN agents a ON a.id = u.agent_id
     ORDER BY u.agent_id, u.day
     ON CONFLICT (agent_id, day) DO UPDATE SET tokens = agent_usage_days.tokens + excluded.tokens,
       refreshes = agent_usage_days.refreshes + excluded.refreshes,
       requests = agent_usage_days.requests + excluded.requests`,
    values,
  );
  await sql.query(
    `INSERT INTO agent_usage (agent_id, tokens, refreshes, requests, last_token_at, last_active_at)
     SELECT u.agent_id, sum(tokens), sum(refreshes), sum(requests), max(last_token_at), max(last_active_at)
     FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[])
       AS u (agent_id, tokens, refreshes, requests, last_token_at, last_active_at) JOIN agents a ON a.id = u.agent_id
     GROUP BY u.agent_id ORDER BY u.agent_id
     ON CONFLICT (agent_id) DO UPDATE SET tokens = agent_usage.tokens + excluded.tokens,
       refreshes = agent_usage.refreshes + excluded.refreshes, requests = agent_usage.requests + excluded.requests,
       last_token_at = greatest(agent_usage.last_token_at, excluded.last_token_at),
       last_active_at = greatest(agent_usage.last_active_at, excluded.last_active_at)`,
    [values[0], ...values.slice(2), rows.map((row) => row.lastTokenAt), rows.map((row) => row.lastActiveAt)],
  );
}

export async function findUsage(sql: Sql, agentId: AgentId): Promise<UsageTotals> {
  const [row] = await sql.query<UsageTotals>(
    'SELECT tokens, refreshes, requests, last_token_at, last_active_at FROM agent_usage WHERE agent_id = $1',
    [agentId],
  );
  return row ?? { tokens: 0n, refreshes: 0n, requests: 0n, lastTokenAt: null, lastActiveAt: null };
}

/** The latest days on which it did something, newest first. */
export async function findUsageDays(
  sql: Sql,
  agentId: AgentId,
  limit: number,
): Promise<{ day: string; tokens: bigint; refreshes: bigint; requests: bigint }[]> {
  return sql.query(
    `SELECT day::text, tokens, refreshes, requests FROM agent_usage_days WHERE agent_id = $1 ORDER BY agent_usage_days.day DESC
     LIMIT $2`,
    [agentId, limit],
  );
}

/** Forgets so many days of before that at most; gives how many. */
export async function deleteUsageDays(sql: Sql, args: { before: Date; limit: number }): Promise<number> {
  const rows = await sql.query(
    `DELETE FROM agent_usage_days WHERE (agent_id, day) IN (
       SELECT agent_id, day FROM agent_usage_days WHERE day < ($1::timestamptz AT TIME ZONE 'UTC')::date
       ORDER BY day LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1 AS one`,
    [args.before, args.limit],
  );
  return rows.length;
}
