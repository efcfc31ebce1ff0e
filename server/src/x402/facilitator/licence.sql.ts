import type { Sql } from '../../db/index.ts';
import type { Payment } from '../payments/payment.ts';

/** Marks that somebody was told to deliver on a payment of the facilitator. False where somebody was before. */
export async function licenceDelivery(
  sql: Sql,
  payment: Pick<Payment, 'environmentId' | 'id'>,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE payments SET delivery = 'done', updated_at = now()
     WHERE environment_id = $1 AND id = $2 AND delivery IS NULL RETURNING id`,
    [payment.environmentId, payment.id],
  );
  return rows.length > 0;
}
