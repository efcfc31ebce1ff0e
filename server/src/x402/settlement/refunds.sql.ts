import type { RowKey, Sql } from '../../db/index.ts';
import type { Payment, PaymentFacts } from '../payments/payment.ts';
import { paymentColumns } from '../payments/payments.sql.ts';

/** What a refund ends with whose payment turned out never to be settled: there is nothing to give back. */
export const originalNotSettled = 'original_not_settled';

/** Of `payments p`: no refund of a payment that isn't settled, or isn't any more. Money is given back that was taken. */
export const isDue = `(p.refund_of IS NULL OR EXISTS (
  SELECT 1 FROM payments o WHERE o.environment_id = p.environment_id AND o.id = p.refund_of AND o.state = 'settled'))`;

/** Refunds on one chain that aren't paid, though due, and that ran out by this time of the chain's. */
export async function findLapsedRefunds(
  sql: Sql,
  args: { network: string; settledTime: bigint; limit: number; after: RowKey },
): Promise<Payment[]> {
  return sql.query<Payment>(
    `SELECT ${paymentColumns} FROM payments p
     WHERE p.network = $1 AND p.refund_of IS NOT NULL AND p.state IN ('responded', 'settlement_failed')
       AND p.valid_before <= $2 AND ${isDue} AND (p.environment_id, p.id) > ($4, $5)
     ORDER BY p.environment_id, p.id LIMIT $3`,
    [args.network, args.settledTime, args.limit, args.after.environmentId, args.after.id],
  );
}

/**
 * Puts another authorisation in the place of a refund's dead one, and claims it. False where the refund has been paid, is on its way, or
 * has another already.
 */
export async function replaceAuthorization(
  sql: Sql,
  refund: Payment,
  next: Pick<PaymentFacts, 'nonce' | 'signature' | 'validBefore'>,
  now: Date,
): Promise<boolean> {
  const rows = await sql.query(
    `WITH renewed AS (
       UPDATE payments SET nonce = $4, signature = $5, valid_before = $6, state = 'responded', failure = NULL,
         settle_attempts = 0, updated_at = now()
       WHERE environment_id = $1 AND id = $2 AND nonce = $3 AND state IN ('responded', 'settlement_failed')
       RETURNING environment_id, id, network, asset, payer
     )
     INSERT INTO payment_claims (network, asset, payer, nonce, environment_id, payment_id, fingerprint, created_at)
     SELECT r.network, r.asset, r.payer, $4, r.environment_id, r.id, c.fingerprint, $7
     FROM renewed r JOIN payment_claims c
       ON c.network = r.network AND c.asset = r.asset AND c.payer = r.payer AND c.nonce = $3
     RETURNING payment_id`,
    [refund.environmentId, refund.id, refund.nonce, next.nonce, next.signature, next.validBefore, now],
  );
  return rows.length > 0;
}

/** A payment that was given back, or is to be, and is itself not settled any more. */
export interface UndoneOriginal {
  original: Payment;
  refund: Payment;
}

/**
 * Payments that failed for good by this time of the chain's, with refunds that aren't ended: unpaid, or paid in a block that stays. One
 * that is on its way is waited for.
 */
export async function findUndoneOriginals(
  sql: Sql,
  args: { network: string; settledTime: bigint; limit: number; after: RowKey },
): Promise<UndoneOriginal[]> {
  const rows = await sql.query<Payment & { original: string }>(
    `SELECT ${paymentColumns}, o.id AS original FROM payments o
     JOIN payments p ON p.environment_id = o.environment_id AND p.refund_of = o.id
     WHERE o.network = $1 AND o.delivery = 'refunded' AND o.state = 'settlement_failed' AND o.valid_before <= $2
       AND ((p.state IN ('responded', 'settlement_failed') AND p.failure IS DISTINCT FROM '${originalNotSettled}')
         OR (p.state = 'settled' AND ${isKept}))
       AND (o.environment_id, o.id) > ($4, $5)
     ORDER BY o.environment_id, o.id LIMIT $3`,
    [args.network, args.settledTime, args.limit, args.after.environmentId, args.after.id],
  );
  const originals = await findPayments(
    sql,
    rows.map(({ environmentId, original: id }) => ({ environmentId, id })),
  );
  return rows.flatMap(({ original, ...refund }) => {
    const found = originals.get(original);
    return found ? { original: found, refund } : [];
  });
}

/** Of `payments p`, settled: by a transaction that the chain won't forget. */
const isKept = `NOT EXISTS (
    SELECT 1 FROM settlement_items i JOIN settlement_transactions t USING (network, relayer, relayer_nonce)
    WHERE i.environment_id = p.environment_id AND i.payment_id = p.id AND t.state <> 'final')
  AND NOT EXISTS (
    SELECT 1 FROM outside_settlements s WHERE s.environment_id = p.environment_id AND s.payment_id = p.id)`;

async function findPayments(
  sql: Sql,
  keys: readonly { environmentId: string; id: string }[],
): Promise<Map<string, Payment>> {
  const rows = await sql.query<Payment>(
    `SELECT ${paymentColumns} FROM payments p JOIN unnest($1::text[], $2::text[]) AS k (environment_id, id)
       ON p.environment_id = k.environment_id AND p.id = k.id`,
    [keys.map(({ environmentId }) => environmentId), keys.map(({ id }) => id)],
  );
  return new Map(rows.map((row) => [row.id, row]));
}

/** Ends a refund that isn't paid, for a payment that never will be. False where either stands otherwise by now. */
export async function endRefund(sql: Sql, { original, refund }: UndoneOriginal): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE payments p SET state = 'settlement_failed', failure = '${originalNotSettled}', updated_at = now()
     FROM payments o
     WHERE o.environment_id = $1 AND o.id = $2 AND o.state = 'settlement_failed'
       AND p.environment_id = $1 AND p.id = $3 AND p.state IN ('responded', 'settlement_failed')
     RETURNING p.id`,
    [original.environmentId, original.id, refund.id],
  );
  return rows.length > 0;
}

/** Says of a payment that it was given back and is itself unpaid for good. False where that was said, or isn't so by now. */
export async function recordLoss(sql: Sql, { original }: UndoneOriginal): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE payments SET delivery = 'lost', updated_at = now()
     WHERE environment_id = $1 AND id = $2 AND state = 'settlement_failed' AND delivery = 'refunded' RETURNING id`,
    [original.environmentId, original.id],
  );
  return rows.length > 0;
}
