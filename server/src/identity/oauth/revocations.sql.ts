import { deleteInBatches, type Sql } from '../../db/index.ts';
import type { AgentId } from '../../kernel/ids.ts';
import type { AgentState } from '../agents/agent.ts';

/** Every process hears on it of tokens that were revoked. The payload says nothing: what is new is looked up. */
export const tokensRevokedChannel = 'tokens_revoked';

export type ChangedAgent = AgentState & { id: AgentId; updatedAt: Date };

/** Agents that were changed since then. One that was only made has no tokens of before. */
export async function findChangedAgents(sql: Sql, since: Date): Promise<ChangedAgent[]> {
  return sql.query<ChangedAgent>(
    `SELECT id, status, expires_at, tokens_valid_from, updated_at FROM agents
     WHERE updated_at > $1 AND updated_at > created_at`,
    [since],
  );
}

/** What was revoked since then: single access tokens by `jti`, and families by id. */
export async function findRevoked(sql: Sql, since: Date): Promise<{ id: string; revokedAt: Date }[]> {
  return sql.query<{ id: string; revokedAt: Date }>(
    `SELECT jti AS id, revoked_at FROM revoked_access_tokens WHERE revoked_at > $1
     UNION ALL SELECT id::text, revoked_at FROM refresh_families WHERE revoked_at > $1`,
    [since],
  );
}

/** Whether an access token was revoked, by itself or with its family. */
export async function isRevoked(sql: Sql, token: { jti: string; familyId: string | null }): Promise<boolean> {
  const rows = await sql.query(
    `SELECT 1 AS one FROM revoked_access_tokens WHERE jti = $1
     UNION ALL SELECT 1 FROM refresh_families WHERE id = $2::uuid AND revoked_at IS NOT NULL`,
    [token.jti, token.familyId],
  );
  return rows.length > 0;
}

/** False where it had been revoked before. */
export async function insertRevokedToken(
  sql: Sql,
  row: { jti: string; agentId: AgentId; expiresAt: Date; now: Date },
): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO revoked_access_tokens (jti, agent_id, expires_at, revoked_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT DO NOTHING RETURNING jti`,
    [row.jti, row.agentId, row.expiresAt, row.now],
  );
  return rows.length > 0;
}

/** Delivered at commit. */
export async function notifyTokensRevoked(sql: Sql): Promise<void> {
  await sql.query(`NOTIFY ${tokensRevokedChannel}`);
}

export async function sweepRevokedTokens(sql: Sql, before: Date): Promise<void> {
  await deleteInBatches(sql, {
    table: 'revoked_access_tokens',
    condition: 'expires_at < $1',
    values: [before],
  });
}
