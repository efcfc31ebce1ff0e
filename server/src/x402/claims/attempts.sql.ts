import type { Sql } from '../../db/index.ts';
import type { Delivery, Payment, PaymentState } from '../payments/payment.ts';
import { paymentColumns } from '../payments/payments.sql.ts';

/**
 * Starts one more upstream attempt of each, or has it settled first where it is to be paid upfront now; those that another has, or that are past that, aren't among the result. Leases are
 * compared by several processes, so they run by the database's clock: a caller's says only how long they are.
 */
export async function beginAttempts(
  sql: Sql,
  attempts: readonly { payment: Payment; fundsBlock: bigint | undefined }[],
  leaseUntil: Date,
  now: Date,
): Promise<Payment[]> {
  const payments = attempts.map(({ payment }) => payment);
  return sql.query<Payment>(
    `UPDATE payments p SET mode = k.mode, failure = NULL, updated_at = now(),
       state = CASE WHEN k.mode = 'upfront' THEN 'responded' ELSE 'forwarding' END,
       attempt = attempt + CASE WHEN k.mode = 'upfront' THEN 0 ELSE 1 END,
       lease_until = CASE WHEN k.mode <> 'upfront' THEN now() + ($4::timestamptz - $3::timestamptz) END,
       delivery = CASE WHEN k.mode = 'upfront' THEN 'owed' ELSE delivery END, funds_block = k.funds_block
     FROM unnest($1::text[], $2::text[], $5::text[], $6::bigint[]) AS k (environment_id, id, mode, funds_block)
     WHERE p.environment_id = k.environment_id AND p.id = k.id
       AND (p.state = 'open' OR (p.state = 'forwarding' AND p.lease_until <= now()))
     RETURNING ${paymentColumns}`,
    [
      payments.map((payment) => payment.environmentId),
      payments.map(({ id }) => id),
      now,
      leaseUntil,
      payments.map(({ mode }) => mode),
      attempts.map(({ fundsBlock }) => fundsBlock ?? null),
    ],
  );
}

/** How an attempt ends, as its payment's row will say. */
export interface EndedAttempt {
  payment: Payment;
  state: Extract<PaymentState, 'open' | 'responded' | 'settled' | 'settling'>;
  failure: string | null;
  transaction: string | null;
  /** Of a stream whose client has nothing of it yet: running, until the lease is over. */
  delivery: Extract<Delivery, 'running'> | null;
  leaseUntil: Date | null;
  replayable: boolean;
  stored: { status: number; sealed: Buffer; bodyHash: Buffer } | null;
}

/** Ends attempts, with the answers that they stored; gives the ids of those that were still their payments' own. */
export async function endAttempts(
  sql: Sql,
  ended: readonly EndedAttempt[],
  now: Date,
  storedUntil: Date,
): Promise<Set<string>> {
  const rows = await sql.query<{ id: string }>(
    `WITH given AS (
       SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::int[],
         $9::bytea[], $10::bytea[], $13::text[], $14::timestamptz[])
         AS g (environment_id, id, attempt, state, failure, transaction, replayable, status, sealed, body_hash, delivery, lease_until)
     ), ended AS (
       UPDATE payments p SET state = g.state, lease_until = now() + (g.lease_until - $11::timestamptz), failure = g.failure, transaction = g.transaction,
         delivery = g.delivery, replayable = g.replayable, settled_at = CASE WHEN g.state = 'settled' THEN now() END, updated_at = now()
       FROM given g
       -- A parameter, so that it is found by its key: the index of those that are unfinished is full of those that were.
       WHERE p.environment_id = g.environment_id AND p.id = g.id AND p.state = $15 AND p.attempt = g.attempt
       RETURNING p.environment_id, p.id
     ), stored AS (
       INSERT INTO stored_responses (environment_id, payment_id, status, sealed, body_hash, created_at, expires_at)
       SELECT g.environment_id, g.id, g.status, g.sealed, g.body_hash, $11, $12
       FROM given g JOIN ended USING (environment_id, id) WHERE g.sealed IS NOT NULL
     )
     SELECT id FROM ended`,
    [
      ended.map(({ payment }) => payment.environmentId),
      ended.map(({ payment }) => payment.id),
      ended.map(({ payment }) => payment.attempt),
      ended.map(({ state }) => state),
      ended.map(({ failure }) => failure),
      ended.map(({ transaction }) => transaction),
      ended.map(({ replayable }) => replayable),
      ended.map(({ stored }) => stored?.status ?? null),
      ended.map(({ stored }) => stored?.sealed ?? null),
      ended.map(({ stored }) => stored?.bodyHash ?? null),
      now,
      storedUntil,
      ended.map(({ delivery }) => delivery),
      ended.map(({ leaseUntil }) => leaseUntil),
      'forwarding',
    ],
  );
  return new Set(rows.map(({ id }) => id));
}
