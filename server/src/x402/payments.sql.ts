import type { Sql } from '../db/index.ts';
import type { ExactPayment } from './exact.ts';
import type { Payment } from './payment.ts';

/** Of `payments p`. */
export const paymentColumns = `p.environment_id, p.id, p.server_id, p.endpoint_id, p.network, p.asset, p.payer, p.nonce, p.pay_to,
  p.amount, p.valid_after, p.valid_before, p.signature, p.agent_id, p.agent_verified, p.client_address,
  p.terms_secret_hash, p.state, p.attempt, p.lease_until, p.transaction, p.failure, p.created_at, p.settled_at`;

export interface Claim {
  payment: Payment;
  /** What the payment may be used for: SHA-256 over method, path, query and body. */
  fingerprint: Buffer;
}

/** The claim on this authorisation, if it was ever presented here. */
export async function findClaim(sql: Sql, sent: ExactPayment): Promise<Claim | undefined> {
  const [row] = await sql.query<Payment & { fingerprint: Buffer }>(
    `SELECT ${paymentColumns}, c.fingerprint
     FROM payment_claims c JOIN payments p ON p.environment_id = c.environment_id AND p.id = c.payment_id
     WHERE c.network = $1 AND c.asset = $2 AND c.payer = $3 AND c.nonce = $4`,
    [sent.network, sent.asset, sent.authorization.from, sent.authorization.nonce],
  );
  if (!row) return undefined;
  const { fingerprint, ...payment } = row;
  return { payment, fingerprint };
}

export async function findPayment(
  sql: Sql,
  key: Pick<Payment, 'environmentId' | 'id'>,
): Promise<Payment | undefined> {
  const [row] = await sql.query<Payment>(
    `SELECT ${paymentColumns} FROM payments p WHERE p.environment_id = $1 AND p.id = $2`,
    [key.environmentId, key.id],
  );
  return row;
}

/** False where the authorisation was claimed before: the primary key decides between concurrent requests. */
export async function insertClaim(
  sql: Sql,
  payment: Payment,
  fingerprint: Buffer,
  now: Date,
): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO payment_claims (network, asset, payer, nonce, environment_id, payment_id, fingerprint, created_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING nonce`,
    [
      payment.network,
      payment.asset,
      payment.payer,
      payment.nonce,
      payment.environmentId,
      payment.id,
      fingerprint,
      now,
    ],
  );
  return rows.length > 0;
}

export async function insertPayment(sql: Sql, payment: Payment): Promise<void> {
  await sql.query(
    `INSERT INTO payments (environment_id, id, server_id, endpoint_id, network, asset, payer, nonce, pay_to, amount,
       valid_after, valid_before, signature, agent_id, agent_verified, client_address, terms_secret_hash, state,
       attempt, lease_until, created_at, updated_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $21)`,
    [
      payment.environmentId,
      payment.id,
      payment.serverId,
      payment.endpointId,
      payment.network,
      payment.asset,
      payment.payer,
      payment.nonce,
      payment.payTo,
      payment.amount,
      payment.validAfter,
      payment.validBefore,
      payment.signature,
      payment.agentId,
      payment.agentVerified,
      payment.clientAddress,
      payment.termsSecretHash,
      payment.state,
      payment.attempt,
      payment.leaseUntil,
      payment.createdAt,
    ],
  );
}

/** Starts one more upstream attempt; nothing where another has it, or it is past that. */
export async function beginAttempt(
  sql: Sql,
  payment: Payment,
  leaseUntil: Date,
  now: Date,
): Promise<Payment | undefined> {
  const [row] = await sql.query<Payment>(
    `UPDATE payments p SET state = 'forwarding', attempt = attempt + 1, lease_until = $4, failure = NULL, updated_at = $3
     WHERE environment_id = $1 AND id = $2 AND (state = 'open' OR (state = 'forwarding' AND lease_until <= $3))
     RETURNING ${paymentColumns}`,
    [payment.environmentId, payment.id, now, leaseUntil],
  );
  return row;
}

/** Ends an attempt, in the state that its outcome leads to. False where the attempt is no longer the payment's. */
export async function endAttempt(
  sql: Sql,
  payment: Payment,
  next: { state: 'open' | 'responded'; failure: string | null },
  now: Date,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE payments SET state = $4, lease_until = NULL, failure = $5, updated_at = $6
     WHERE environment_id = $1 AND id = $2 AND state = 'forwarding' AND attempt = $3 RETURNING id`,
    [payment.environmentId, payment.id, payment.attempt, next.state, next.failure, now],
  );
  return rows.length > 0;
}

export async function insertStoredResponse(
  sql: Sql,
  payment: Payment,
  row: { status: number; sealed: Buffer; bodyHash: Buffer; now: Date; expiresAt: Date },
): Promise<void> {
  await sql.query(
    `INSERT INTO stored_responses (environment_id, payment_id, status, sealed, body_hash, created_at, expires_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7)`,
    [payment.environmentId, payment.id, row.status, row.sealed, row.bodyHash, row.now, row.expiresAt],
  );
}

export async function findSealedResponse(
  sql: Sql,
  payment: Pick<Payment, 'environmentId' | 'id'>,
): Promise<{ status: number; sealed: Buffer | null } | undefined> {
  const [row] = await sql.query<{ status: number; sealed: Buffer | null }>(
    'SELECT status, sealed FROM stored_responses WHERE environment_id = $1 AND payment_id = $2',
    [payment.environmentId, payment.id],
  );
  return row;
}

/** Payments that a process left behind: past their lease, or answered a while ago and not taken for settling. */
export async function findAbandoned(
  sql: Sql,
  now: Date,
  respondedBefore: Date,
  limit: number,
): Promise<Payment[]> {
  return sql.query<Payment>(
    `SELECT ${paymentColumns} FROM payments p
     WHERE (state = 'forwarding' AND lease_until <= $1) OR (state = 'responded' AND updated_at <= $2)
     ORDER BY updated_at LIMIT $3`,
    [now, respondedBefore, limit],
  );
}

/** Frees the bodies that nobody may fetch any more; status and hash stay. */
export async function sweepStoredResponses(sql: Sql, now: Date): Promise<number> {
  const rows = await sql.query(
    'UPDATE stored_responses SET sealed = NULL WHERE expires_at <= $1 AND sealed IS NOT NULL RETURNING payment_id',
    [now],
  );
  return rows.length;
}
