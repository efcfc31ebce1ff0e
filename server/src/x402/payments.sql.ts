import type { Sql } from '../db/index.ts';
import type { Payment, PaymentKey } from './payment.ts';

/** Of `payments p`. */
export const paymentColumns = `p.environment_id, p.id, p.server_id, p.endpoint_id, p.network, p.asset, p.payer, p.nonce, p.pay_to,
  p.amount, p.valid_after, p.valid_before, p.signature, p.agent_id, p.agent_verified, p.client_address,
  p.terms_secret_hash, p.mode, p.state, p.attempt, p.lease_until, p.delivery, p.replayable, p.transaction, p.failure, p.refund_of, p.created_at, p.settled_at`;

export interface Claim {
  payment: Payment;
  /** What the payment may be used for: SHA-256 over method, path, query and body. */
  fingerprint: Buffer;
}

/** The claim on this authorisation, if it was ever presented here. */
export async function findClaim(sql: Sql, key: PaymentKey): Promise<Claim | undefined> {
  const [row] = await sql.query<Payment & { fingerprint: Buffer }>(
    `SELECT ${paymentColumns}, c.fingerprint
     FROM payment_claims c JOIN payments p ON p.environment_id = c.environment_id AND p.id = c.payment_id
     WHERE c.network = $1 AND c.asset = $2 AND c.payer = $3 AND c.nonce = $4`,
    [key.network, key.asset, key.payer, key.nonce],
  );
  if (!row) return undefined;
  const { fingerprint, ...payment } = row;
  return { payment, fingerprint };
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
