import type { Hex } from 'viem';
import type { Sql } from '../../db/index.ts';
import type { Block } from '../chain/receipts.ts';
import type { Payment } from '../payments/payment.ts';
import { paymentColumns } from '../payments/payments.sql.ts';
import type { Conclusion } from './conclusions.sql.ts';

/** A payment that a transaction has settled which isn't one of ours for it. */
export interface OutsideSettlement {
  payment: Payment;
  transaction: Hex;
}

/** Has the blocks watched in which others settled these. */
export async function watchOutside(sql: Sql, conclusions: readonly Conclusion[]): Promise<void> {
  const watched = conclusions.flatMap((one) => (one.state === 'settled' && one.isWatchedByItself ? one : []));
  if (watched.length === 0) return;
  await sql.query(
    `INSERT INTO outside_settlements
       (environment_id, payment_id, network, transaction, block_number, block_hash, checked_at)
     SELECT *, now() FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[])
     ON CONFLICT (environment_id, payment_id) DO UPDATE SET transaction = EXCLUDED.transaction,
       block_number = EXCLUDED.block_number, block_hash = EXCLUDED.block_hash, checked_at = now()`,
    [
      watched.map(({ payment }) => payment.environmentId),
      watched.map(({ payment }) => payment.id),
      watched.map(({ payment }) => payment.network),
      watched.map(({ transaction }) => transaction),
      watched.map(({ block }) => block.number),
      watched.map(({ block }) => block.hash),
    ],
  );
}

export async function findOutsideIn(sql: Sql, network: string, block: Block): Promise<OutsideSettlement[]> {
  const rows = await sql.query<Payment & { outside: Hex }>(
    `SELECT ${paymentColumns}, o.transaction AS outside FROM outside_settlements o
     JOIN payments p ON p.environment_id = o.environment_id AND p.id = o.payment_id
     WHERE o.network = $1 AND o.block_number = $2 AND o.block_hash = $3`,
    [network, block.number, block.hash],
  );
  return rows.map(({ outside, ...payment }) => ({ payment, transaction: outside }));
}

/** These blocks are still the chain's; what is as deep as the settled one is watched no more. */
export async function keepOutside(
  sql: Sql,
  network: string,
  blocks: readonly Block[],
  settled: bigint,
): Promise<void> {
  const columns = [network, blocks.map(({ number }) => number), blocks.map(({ hash }) => hash)];
  const isIn = `o.network = $1 AND (o.block_number, o.block_hash) IN (SELECT * FROM unnest($2::bigint[], $3::text[]))`;
  await sql.query(`DELETE FROM outside_settlements o WHERE ${isIn} AND o.block_number <= $4`, [
    ...columns,
    settled,
  ]);
  await sql.query(`UPDATE outside_settlements o SET checked_at = now() WHERE ${isIn}`, columns);
}

/** The transaction is in another block now. */
export async function moveOutside(
  sql: Sql,
  { payment, transaction }: OutsideSettlement,
  block: Block,
): Promise<void> {
  await sql.query(
    `UPDATE outside_settlements SET block_number = $4, block_hash = $5, checked_at = now()
     WHERE environment_id = $1 AND payment_id = $2 AND transaction = $3`,
    [payment.environmentId, payment.id, transaction, block.number, block.hash],
  );
  await sql.query(
    `UPDATE payments SET settled_block = $4 WHERE environment_id = $1 AND id = $2 AND state = 'settled' AND transaction = $3`,
    [payment.environmentId, payment.id, transaction, block.number],
  );
}

/**
 * The chain has forgotten the transaction: the payment is due again, and nothing of ours is on its way for it. False where it has been
 * settled otherwise since, or another process was faster.
 */
export async function reopenOutside(sql: Sql, { payment, transaction }: OutsideSettlement): Promise<boolean> {
  const key = [payment.environmentId, payment.id, transaction];
  await sql.query(
    'DELETE FROM outside_settlements WHERE environment_id = $1 AND payment_id = $2 AND transaction = $3',
    key,
  );
  const rows = await sql.query(
    `UPDATE payments SET state = 'responded', transaction = NULL, settled_at = NULL, settled_block = NULL, failure = NULL, updated_at = now()
     WHERE environment_id = $1 AND id = $2 AND state = 'settled' AND transaction = $3 RETURNING id`,
    key,
  );
  return rows.length > 0;
}
