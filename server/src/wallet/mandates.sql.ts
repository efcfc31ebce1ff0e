import type { Sql } from '../db/index.ts';
import type { AgentId, DelegationId, EnvironmentId } from '../kernel/ids.ts';
import type { MandateRequest } from './mandate.ts';

const mandateColumns = `id, agent_id, natural_language, category, currency, limit_amount, max_amount_per_tx,
  valid_for_seconds, host_allowlist, environment_id, signed_by, signed_at, created_at, expires_at`;

export async function insertMandateRequest(sql: Sql, mandate: MandateRequest): Promise<void> {
  await sql.query(
    `INSERT INTO mandate_requests (id, agent_id, natural_language, category, currency, limit_amount, max_amount_per_tx,
       valid_for_seconds, host_allowlist, created_at, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
    [
      mandate.id,
      mandate.agentId,
      mandate.naturalLanguage,
      mandate.category,
      mandate.currency,
      mandate.limitAmount,
      mandate.maxAmountPerTx,
      mandate.validForSeconds,
      mandate.hostAllowlist,
      mandate.createdAt,
      mandate.expiresAt,
    ],
  );
}

export async function findMandateRequest(sql: Sql, id: string): Promise<MandateRequest | undefined> {
  const [row] = await sql.query<MandateRequest>(
    `SELECT ${mandateColumns} FROM mandate_requests WHERE id = $1`,
    [id],
  );
  return row;
}

/** As `findMandateRequest`, holding the row: of two people who sign at once, the second sees the first. */
export async function lockMandateRequest(sql: Sql, id: string): Promise<MandateRequest | undefined> {
  const [row] = await sql.query<MandateRequest>(
    `SELECT ${mandateColumns} FROM mandate_requests WHERE id = $1 FOR UPDATE`,
    [id],
  );
  return row;
}

/** Of an agent, or signed for an environment; newest first. `before` is the id that the last page ended with. */
export async function listMandateRequests(
  sql: Sql,
  owner: { agentId: AgentId } | { environmentId: EnvironmentId },
  page: { before: string | null; limit: number },
): Promise<MandateRequest[]> {
  const [column, value] =
    'agentId' in owner ? ['agent_id', owner.agentId] : ['environment_id', owner.environmentId];
  return sql.query<MandateRequest>(
    `SELECT ${mandateColumns} FROM mandate_requests WHERE ${column} = $1 AND ($2::text IS NULL OR id < $2)
     ORDER BY id DESC LIMIT $3`,
    [value, page.before, page.limit],
  );
}

export async function markSigned(
  sql: Sql,
  row: { id: DelegationId; environmentId: EnvironmentId; signedBy: string; now: Date },
): Promise<void> {
  await sql.query(
    'UPDATE mandate_requests SET environment_id = $2, signed_by = $3, signed_at = $4 WHERE id = $1',
    [row.id, row.environmentId, row.signedBy, row.now],
  );
}
