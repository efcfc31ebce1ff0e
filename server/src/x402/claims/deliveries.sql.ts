import type { RowKey, Sql } from '../../db/index.ts';
import type { Delivery, Payment } from '../payments/payment.ts';
import { paymentColumns } from '../payments/payments.sql.ts';
import type { SealedResponse } from './stored-response.ts';

/** Starts one upstream attempt of a settled payment; nothing where its answer isn't owed, or another attempt runs. */
export async function beginDelivery(
  sql: Sql,
  payment: Payment,
  leaseUntil: Date,
  now: Date,
): Promise<Payment | undefined> {
  const [row] = await sql.query<Payment>(
    `UPDATE payments p SET delivery = 'running', attempt = attempt + 1,
       lease_until = now() + ($4::timestamptz - $3::timestamptz), failure = NULL, updated_at = now()
     WHERE environment_id = $1 AND id = $2 AND state = 'settled'
       AND (delivery = 'owed' OR (delivery = 'running' AND lease_until <= now()))
     RETURNING ${paymentColumns}`,
    [payment.environmentId, payment.id, now, leaseUntil],
  );
  return row;
}

/**
 * Says whether a stream has begun to reach its client, while it is still that attempt's: `done` only once its payment is settled, or is
 * being settled again as the chain has forgotten that, where it isn't settled behind the answer. What is done can't be given again.
 */
export async function endStreamWait(
  sql: Sql,
  payment: Payment,
  delivery: Extract<Delivery, 'done' | 'owed'>,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE payments SET delivery = $4, lease_until = NULL, replayable = replayable AND $4 = 'owed', updated_at = now()
     WHERE environment_id = $1 AND id = $2 AND delivery = 'running' AND attempt = $3
       AND ($4 = 'owed' OR state IN ('settled', 'settling') OR mode = 'optimistic')
     RETURNING id`,
    [payment.environmentId, payment.id, payment.attempt, delivery],
  );
  return rows.length > 0;
}

/** Ends an attempt that `beginDelivery` began. False where it is no longer the payment's. */
export async function endDelivery(
  sql: Sql,
  payment: Payment,
  next: {
    delivery: Delivery;
    failure: string | null;
    stored: SealedResponse | null;
    storedUntil: Date;
  },
  now: Date,
): Promise<boolean> {
  const { stored } = next;
  const rows = await sql.query(
    `WITH ended AS (
       UPDATE payments SET delivery = $4, lease_until = NULL, replayable = true, failure = $5, updated_at = now()
       WHERE environment_id = $1 AND id = $2 AND delivery = 'running' AND attempt = $3 RETURNING environment_id, id
     ), stored AS (
       INSERT INTO stored_responses (environment_id, payment_id, status, sealed, body_hash, created_at, expires_at)
       SELECT environment_id, id, $7::int, $8::bytea, $9::bytea, $6, $10 FROM ended WHERE $8::bytea IS NOT NULL
     )
     SELECT id FROM ended`,
    [
      payment.environmentId,
      payment.id,
      payment.attempt,
      next.delivery,
      next.failure,
      now,
      stored?.status ?? null,
      stored?.sealed ?? null,
      stored?.bodyHash ?? null,
      next.storedUntil,
    ],
  );
  return rows.length > 0;
}

/** Payments that were paid upfront so long ago and not delivered, with nobody at it. */
export async function findUndelivered(
  sql: Sql,
  args: { settledForSeconds: number; limit: number; after: RowKey },
): Promise<Payment[]> {
  return sql.query<Payment>(
    `SELECT ${paymentColumns} FROM payments p
     WHERE state = 'settled' AND mode = 'upfront' AND settled_at <= now() - make_interval(secs => $1)
       AND (delivery = 'owed' OR (delivery = 'running' AND lease_until <= now()))
       AND (environment_id, id) > ($3, $4)
     ORDER BY environment_id, id LIMIT $2`,
    [args.settledForSeconds, args.limit, args.after.environmentId, args.after.id],
  );
}
