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

/**
 * Of an agent, those apart that other environments than these have signed; or signed for an environment. Newest first; `before` is the
 * id that the last page ended with.
 */
export async function listMandateRequests(
  sql: Sql,
  owner: { agentId: AgentId; openEnvironments: readonly EnvironmentId[] } | { environmentId: EnvironmentId },
  page: { before: string | null; limit: number },
): Promise<MandateRequest[]> {
  const [condition, values] =
    'agentId' in owner
      ? [
          'agent_id = $3 AND (environment_id IS NULL OR environment_id = ANY($4))',
          [owner.agentId, owner.openEnvironments],
        ]
      : ['environment_id = $3', [owner.environmentId]];
  return sql.query<MandateRequest>(
    `SELECT ${mandateColumns} FROM mandate_requests WHERE ${condition} AND ($1::text IS NULL OR id < $1)
     ORDER BY id DESC LIMIT $2`,
    [page.before, page.limit, ...values],
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
