import type { Sql } from '../../db/index.ts';
import type { Payment } from '../payments/payment.ts';
import { paymentColumns } from '../payments/payments.sql.ts';
import type { Block } from '../chain/receipts.ts';
import { type SettlementTransaction, transactionColumns } from './transactions.sql.ts';

/** Blocks in which payments were settled and that may still go, those first that were looked at longest ago. */
export async function findWatchedBlocks(sql: Sql, network: string, limit: number): Promise<Block[]> {
  return sql.query<Block>(
    `SELECT block_number AS number, block_hash AS hash FROM (
       SELECT block_number, block_hash, checked_at FROM settlement_transactions WHERE network = $1 AND state = 'mined'
       UNION ALL SELECT block_number, block_hash, checked_at FROM outside_settlements WHERE network = $1) AS watched
     GROUP BY block_number, block_hash ORDER BY min(checked_at) LIMIT $2`,
    [network, limit],
  );
}

export async function findMinedIn(sql: Sql, network: string, block: Block): Promise<SettlementTransaction[]> {
  return sql.query<SettlementTransaction>(
    `SELECT ${transactionColumns} FROM settlement_transactions t
     WHERE network = $1 AND state = 'mined' AND block_number = $2 AND block_hash = $3
     ORDER BY relayer, relayer_nonce`,
    [network, block.number, block.hash],
  );
}

/** The payments of a transaction, whatever became of them. */
export async function findAllItems(sql: Sql, transaction: SettlementTransaction): Promise<Payment[]> {
  return sql.query<Payment>(
    `SELECT ${paymentColumns} FROM settlement_items i
     JOIN payments p ON p.environment_id = i.environment_id AND p.id = i.payment_id
     WHERE i.network = $1 AND i.relayer = $2 AND i.relayer_nonce = $3 ORDER BY i.position`,
    [transaction.network, transaction.relayer, transaction.relayerNonce],
  );
}

/** These blocks are still the chain's; what was mined up to the settled one stays for good. */
export async function keepMined(
  sql: Sql,
  network: string,
  blocks: readonly Block[],
  settled: bigint,
): Promise<void> {
  await sql.query(
    `UPDATE settlement_transactions t SET checked_at = now(),
       state = CASE WHEN t.block_number <= $4 THEN 'final' ELSE 'mined' END
     FROM unnest($2::bigint[], $3::text[]) AS k (number, hash)
     WHERE t.network = $1 AND t.state = 'mined' AND t.block_number = k.number AND t.block_hash = k.hash`,
    [network, blocks.map(({ number }) => number), blocks.map(({ hash }) => hash), settled],
  );
}

/** The transaction is in another block now. */
export async function moveToBlock(sql: Sql, transaction: SettlementTransaction, block: Block): Promise<void> {
  const key = [transaction.network, transaction.relayer, transaction.relayerNonce];
  await sql.query(
    `UPDATE settlement_transactions SET block_number = $4, block_hash = $5, checked_at = now()
     WHERE network = $1 AND relayer = $2 AND relayer_nonce = $3 AND state = 'mined'`,
    [...key, block.number, block.hash],
  );
  await sql.query(
    `UPDATE payments p SET settled_block = $4 FROM settlement_items i
     WHERE i.network = $1 AND i.relayer = $2 AND i.relayer_nonce = $3
       AND p.environment_id = i.environment_id AND p.id = i.payment_id
       AND p.state = 'settled' AND p.transaction = ANY ($5::text[])`,
    [...key, block.number, transaction.hashes],
  );
}

/**
 * The chain has forgotten the transaction: it is as if it had been sent and nobody watched it. Its payments are on their way again,
 * but for those that another transaction has taken since. Gives the ids of the payments that are.
 */
export async function reopenTransaction(sql: Sql, transaction: SettlementTransaction): Promise<Set<string>> {
  const key = [transaction.network, transaction.relayer, transaction.relayerNonce];
  const reopened = await sql.query(
    `UPDATE settlement_transactions
     SET state = 'sent', lease_until = now(), block_number = NULL, block_hash = NULL, checked_at = NULL
     WHERE network = $1 AND relayer = $2 AND relayer_nonce = $3 AND state = 'mined' RETURNING relayer_nonce`,
    key,
  );
  if (reopened.length === 0) return new Set();
  const rows = await sql.query<{ id: string }>(
    `UPDATE payments p SET state = 'settling', transaction = NULL, settled_at = NULL, settled_block = NULL, failure = NULL, updated_at = now()
     FROM settlement_items i
     WHERE i.network = $1 AND i.relayer = $2 AND i.relayer_nonce = $3
       AND p.environment_id = i.environment_id AND p.id = i.payment_id
       AND (p.state = 'settlement_failed' OR (p.state = 'settled' AND p.transaction = ANY ($4::text[])))
     RETURNING p.id`,
    [...key, transaction.hashes],
  );
  return new Set(rows.map((row) => row.id));
}
