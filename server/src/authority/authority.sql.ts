import type { Sql } from '../db/index.ts';
import type { DelegationId, EnvironmentId, Id } from '../kernel/ids.ts';
import type { Decision, PaymentRequest } from './decide.ts';
import type { Delegation, Limit } from './delegation.ts';

export async function insertDelegation(sql: Sql, delegation: Delegation, now: Date): Promise<void> {
  await sql.query(
    `INSERT INTO delegations (environment_id, id, agent_id, status, description, category, host_allowlist, valid_from,
       valid_until, created_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
    [
      delegation.environmentId,
      delegation.id,
      delegation.agentId,
      delegation.status,
      delegation.description,
      delegation.category,
      delegation.hostAllowlist,
      delegation.validFrom,
      delegation.validUntil,
      now,
    ],
  );
}

export async function insertLimit(
  sql: Sql,
  delegation: Pick<Delegation, 'environmentId' | 'id'>,
  limit: Pick<Limit, 'amount' | 'currency' | 'kind'>,
): Promise<void> {
  await sql.query(
    'INSERT INTO delegation_limits (environment_id, delegation_id, kind, currency, amount) VALUES ($1, $2, $3, $4, $5)',
    [delegation.environmentId, delegation.id, limit.kind, limit.currency, limit.amount],
  );
}

export interface DelegationKey {
  environmentId: EnvironmentId;
  id: DelegationId;
}

export async function findDelegation(sql: Sql, key: DelegationKey): Promise<Delegation | undefined> {
  const [row] = await sql.query<Delegation>(
    `SELECT environment_id, id, agent_id, status, description, category, host_allowlist, valid_from, valid_until
     FROM delegations WHERE environment_id = $1 AND id = $2`,
    [key.environmentId, key.id],
  );
  return row;
}

export async function findLimits(sql: Sql, key: DelegationKey): Promise<Limit[]> {
  return sql.query<Limit>(limitsQuery, [key.environmentId, key.id]);
}

/** As `findLimits`, holding their rows until the transaction ends, in one order for everybody. */
export async function lockLimits(sql: Sql, key: DelegationKey): Promise<Limit[]> {
  return sql.query<Limit>(`${limitsQuery} FOR UPDATE`, [key.environmentId, key.id]);
}

const limitsQuery = `SELECT kind, currency, amount, spent, held FROM delegation_limits
  WHERE environment_id = $1 AND delegation_id = $2 ORDER BY kind, currency`;

export async function insertDecision(
  sql: Sql,
  row: {
    id: Id<'decision'>;
    delegation: DelegationKey;
    request: PaymentRequest;
    decision: Decision;
    now: Date;
    expiresAt: Date;
  },
): Promise<void> {
  const { request, decision } = row;
  await sql.query(
    `INSERT INTO decisions (environment_id, id, agent_id, delegation_id, action, reason_codes, amount, max_amount,
       currency, resource, created_at, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
    [
      row.delegation.environmentId,
      row.id,
      request.agentId,
      row.delegation.id,
      decision.action,
      decision.reasonCodes,
      request.amount,
      decision.maxAmount,
      request.currency,
      request.resource.href,
      row.now,
      row.expiresAt,
    ],
  );
}

/** Reserves the amount against the lifetime limit. The database refuses what exceeds it. */
export async function insertHold(
  sql: Sql,
  row: {
    id: Id<'hold'>;
    decisionId: Id<'decision'>;
    delegation: DelegationKey;
    currency: string;
    amount: bigint;
    now: Date;
  },
): Promise<void> {
  await sql.query(
    `INSERT INTO holds (environment_id, id, decision_id, delegation_id, currency, amount, state, created_at)
     VALUES ($1, $2, $3, $4, $5, $6, 'held', $7)`,
    [
      row.delegation.environmentId,
      row.id,
      row.decisionId,
      row.delegation.id,
      row.currency,
      row.amount,
      row.now,
    ],
  );
  await sql.query(
    `UPDATE delegation_limits SET held = held + $4
     WHERE environment_id = $1 AND delegation_id = $2 AND currency = $3 AND kind = 'lifetime'`,
    [row.delegation.environmentId, row.delegation.id, row.currency, row.amount],
  );
}

/** Holds again what was captured, where it turns out not to be spent. False where the hold isn't a captured one. */
export async function reopenHold(
  sql: Sql,
  key: { environmentId: EnvironmentId; id: Id<'hold'> },
): Promise<boolean> {
  const [hold] = await sql.query<{ delegationId: string; currency: string; amount: bigint }>(
    `UPDATE holds SET state = 'held', closed_at = NULL WHERE environment_id = $1 AND id = $2 AND state = 'captured'
     RETURNING delegation_id, currency, amount`,
    [key.environmentId, key.id],
  );
  if (!hold) return false;
  await sql.query(
    `UPDATE delegation_limits SET held = held + $4, spent = spent - $4
     WHERE environment_id = $1 AND delegation_id = $2 AND currency = $3 AND kind = 'lifetime'`,
    [key.environmentId, hold.delegationId, hold.currency, hold.amount],
  );
  return true;
}

/** Ends a hold once: its amount is spent, or free again. False where it had ended before. */
export async function closeHold(
  sql: Sql,
  key: { environmentId: EnvironmentId; id: Id<'hold'> },
  state: 'captured' | 'released',
  now: Date,
): Promise<boolean> {
  const [hold] = await sql.query<{ delegationId: string; currency: string; amount: bigint }>(
    `UPDATE holds SET state = $3, closed_at = $4 WHERE environment_id = $1 AND id = $2 AND state = 'held'
     RETURNING delegation_id, currency, amount`,
    [key.environmentId, key.id, state, now],
  );
  if (!hold) return false;
  await sql.query(
    `UPDATE delegation_limits SET held = held - $4, spent = spent + $5
     WHERE environment_id = $1 AND delegation_id = $2 AND currency = $3 AND kind = 'lifetime'`,
    [
      key.environmentId,
      hold.delegationId,
      hold.currency,
      hold.amount,
      state === 'captured' ? hold.amount : 0n,
    ],
  );
  return true;
}
