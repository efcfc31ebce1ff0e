import type { Sql } from '../../db/index.ts';
import type { AgentId, LinkId } from '../../kernel/ids.ts';
import type { LinkRequest } from './link-request.ts';

/** As it is kept: with its code, sealed. */
export type LinkRequestRow = LinkRequest & { userCode: Buffer };

const columns = 'id, agent_id, user_code, wrong_codes, client_address, created_at, expires_at';

/** Takes the place of an earlier request of the same agent. */
export async function insertLinkRequest(sql: Sql, row: LinkRequestRow): Promise<void> {
  await sql.query('DELETE FROM agent_link_requests WHERE agent_id = $1', [row.agentId]);
  await sql.query(`INSERT INTO agent_link_requests (${columns}) VALUES ($1, $2, $3, $4, $5, $6, $7)`, [
    row.id,
    row.agentId,
    row.userCode,
    row.wrongCodes,
    row.clientAddress,
    row.createdAt,
    row.expiresAt,
  ]);
}

export async function findLinkRequestOf(sql: Sql, agentId: AgentId): Promise<LinkRequestRow | undefined> {
  const [row] = await sql.query<LinkRequestRow>(
    `SELECT ${columns} FROM agent_link_requests WHERE agent_id = $1`,
    [agentId],
  );
  return row;
}

/** `lock`: of two people who answer at once, the second finds it answered. */
export async function findLinkRequest(
  sql: Sql,
  id: LinkId,
  lock = false,
): Promise<LinkRequestRow | undefined> {
  const [row] = await sql.query<LinkRequestRow>(
    `SELECT ${columns} FROM agent_link_requests WHERE id = $1 ${lock ? 'FOR UPDATE' : ''}`,
    [id],
  );
  return row;
}

export async function countWrongCode(sql: Sql, id: LinkId): Promise<void> {
  await sql.query('UPDATE agent_link_requests SET wrong_codes = wrong_codes + 1 WHERE id = $1', [id]);
}

export async function deleteLinkRequest(sql: Sql, id: LinkId): Promise<void> {
  await sql.query('DELETE FROM agent_link_requests WHERE id = $1', [id]);
}
