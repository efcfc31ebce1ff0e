import type { Address, Hex } from 'viem';
import type { Sql } from '../../db/index.ts';
import type { Payment } from '../payments/payment.ts';
import { paymentColumns } from '../payments/payments.sql.ts';
import type { Block } from '../chain/receipts.ts';

/** A relayer's transaction that settles some payments. */
export interface SettlementTransaction {
  network: string;
  relayer: Address;
  relayerNonce: bigint;
  /** Of every version that was signed; at most one of them is ever mined. */
  hashes: Hex[];
  /** The latest version, as it is sent. */
  raw: Hex;
  signedAt: Date;
}

const transactionColumns = 't.network, t.relayer, t.relayer_nonce, t.hashes, t.raw, t.signed_at';

/** A payment that was sent this often and not settled isn't sent again: each time has cost gas. */
const attemptsMax = 5;

/** Takes answered payments for a transaction. Those that another process has, or that are settled, aren't among the result. */
export async function takeForSettling(sql: Sql, payments: readonly Payment[], now: Date): Promise<Payment[]> {
  return sql.query<Payment>(
    `UPDATE payments p SET state = 'settling', failure = NULL, updated_at = $3
     FROM unnest($1::text[], $2::text[]) AS k (environment_id, id)
     WHERE p.environment_id = k.environment_id AND p.id = k.id AND p.state IN ('responded', 'settlement_failed')
       AND p.settle_attempts < ${attemptsMax}
     RETURNING ${paymentColumns}`,
    [payments.map((payment) => payment.environmentId), payments.map((payment) => payment.id), now],
  );
}

export async function insertTransaction(
  sql: Sql,
  transaction: SettlementTransaction,
  payments: readonly Payment[],
  leaseUntil: Date,
): Promise<void> {
  const { network, relayer, relayerNonce } = transaction;
  await sql.query(
    `WITH inserted AS (
       INSERT INTO settlement_transactions
         (network, relayer, relayer_nonce, hashes, raw, state, lease_until, signed_at)
       VALUES ($1, $2, $3, $4, $5, 'sent', $6, $7))
     INSERT INTO settlement_items (network, relayer, relayer_nonce, position, environment_id, payment_id)
     SELECT $1, $2, $3, k.position, k.environment_id, k.payment_id
     FROM unnest($8::text[], $9::text[]) WITH ORDINALITY AS k (environment_id, payment_id, position)`,
    [
      network,
      relayer,
      relayerNonce,
      transaction.hashes,
      transaction.raw,
      leaseUntil,
      transaction.signedAt,
      payments.map((payment) => payment.environmentId),
      payments.map((payment) => payment.id),
    ],
  );
}

/** Takes over transactions that nobody has watched for as long as their lease. */
export async function takeUnwatched(
  sql: Sql,
  args: { network: string; now: Date; leaseUntil: Date; limit: number },
): Promise<SettlementTransaction[]> {
  return sql.query<SettlementTransaction>(
    `UPDATE settlement_transactions t SET lease_until = $3
     WHERE (t.network, t.relayer, t.relayer_nonce) IN (
       SELECT network, relayer, relayer_nonce FROM settlement_transactions
       WHERE network = $1 AND state = 'sent' AND lease_until <= $2
       ORDER BY lease_until LIMIT $4 FOR UPDATE SKIP LOCKED)
     RETURNING ${transactionColumns}`,
    [args.network, args.now, args.leaseUntil, args.limit],
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

/** The payments of a transaction that are still waiting for its end. */
export async function findItems(sql: Sql, transaction: SettlementTransaction): Promise<Payment[]> {
  return sql.query<Payment>(
    `SELECT ${paymentColumns} FROM settlement_items i
     JOIN payments p ON p.environment_id = i.environment_id AND p.id = i.payment_id
     WHERE i.network = $1 AND i.relayer = $2 AND i.relayer_nonce = $3 AND p.state = 'settling'
     ORDER BY i.position`,
    [transaction.network, transaction.relayer, transaction.relayerNonce],
  );
}

/**
 * Says where a transaction stands: mined in a block, or ended without one because its nonce was used by another's; or sent, as before.
 * False where another process has told its end already. Locks the row, so that its end is told once.
 */
export async function closeTransaction(
  sql: Sql,
  transaction: SettlementTransaction,
  next: { state: 'final' | 'mined' | 'sent'; block: Block | undefined; now: Date },
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE settlement_transactions SET state = $4, block_number = $5, block_hash = $6, checked_at = $7
     WHERE network = $1 AND relayer = $2 AND relayer_nonce = $3 AND state = 'sent' RETURNING relayer_nonce`,
    [
      transaction.network,
      transaction.relayer,
      transaction.relayerNonce,
      next.state,
      next.block?.number ?? null,
      next.block?.hash ?? null,
      next.now,
    ],
  );
  return rows.length > 0;
}

/** Puts another version with the same nonce in the place of one that the chain leaves lying. */
export async function replaceRaw(
  sql: Sql,
  transaction: SettlementTransaction,
  version: { raw: Hex; hash: Hex; now: Date },
): Promise<void> {
  await sql.query(
    `UPDATE settlement_transactions SET raw = $4, hashes = hashes || $5::text, signed_at = $6
     WHERE network = $1 AND relayer = $2 AND relayer_nonce = $3 AND state = 'sent'`,
    [
      transaction.network,
      transaction.relayer,
      transaction.relayerNonce,
      version.raw,
      version.hash,
      version.now,
    ],
  );
}

/** How many transactions of a relayer are sent again in one round: each may have 200 KB. */
const resentMax = 50;

/** The first transactions from this nonce on, in order, ended or not: what a chain that has forgotten must be told again. */
export async function findFrom(
  sql: Sql,
  args: { network: string; relayer: Address; relayerNonce: number },
): Promise<{ raw: Hex }[]> {
  return sql.query<{ raw: Hex }>(
    `SELECT raw FROM settlement_transactions
     WHERE network = $1 AND relayer = $2 AND relayer_nonce >= $3 ORDER BY relayer_nonce LIMIT ${resentMax}`,
    [args.network, args.relayer, args.relayerNonce],
  );
}

/** What became of a payment, as its row will say. */
export type Conclusion =
  /** Back to being answered: its transaction ended without a word about it. */
  | { payment: Payment; state: 'responded' }
  | { payment: Payment; state: 'settled'; transaction: string }
  | { payment: Payment; state: 'settlement_failed'; failure: string };

/** What a payment fails with that was sent as often as it may be, and never mined with its transfer (specification v2, section 9). */
const sentInVain = 'unexpected_settle_error';
/** Of `p` with its conclusion `k`: back to waiting, and no turn left. */
const isLast = `(k.state = 'responded' AND p.state = 'settling' AND p.settle_attempts + 1 >= ${attemptsMax})`;

/** Writes conclusions of payments that are in one of these states; gives those that were, by id, as their rows say it. */
export async function concludePayments(
  sql: Sql,
  conclusions: readonly Conclusion[],
  from: readonly ('responded' | 'settlement_failed' | 'settling')[],
  now: Date,
): Promise<Map<string, Conclusion>> {
  const rows = await sql.query<Pick<Payment, 'failure' | 'id' | 'state'>>(
    `UPDATE payments p SET transaction = k.transaction, updated_at = $7,
       state = CASE WHEN ${isLast} THEN 'settlement_failed' ELSE k.state END,
       failure = CASE WHEN ${isLast} THEN '${sentInVain}' ELSE k.failure END,
       settled_at = CASE WHEN k.state = 'settled' THEN $7::timestamptz END,
       settle_attempts = settle_attempts + CASE WHEN k.state <> 'settled' AND p.state = 'settling' THEN 1 ELSE 0 END
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
       AS k (environment_id, id, state, transaction, failure)
     WHERE p.environment_id = k.environment_id AND p.id = k.id AND p.state = ANY ($6::text[])
     RETURNING p.id, p.state, p.failure`,
    [
      conclusions.map(({ payment }) => payment.environmentId),
      conclusions.map(({ payment }) => payment.id),
      conclusions.map(({ state }) => state),
      conclusions.map((one) => (one.state === 'settled' ? one.transaction : null)),
      conclusions.map((one) => (one.state === 'settlement_failed' ? one.failure : null)),
      from,
      now,
    ],
  );
  const states = new Map(rows.map((row) => [row.id, row]));
  return new Map(
    conclusions.flatMap((conclusion) => {
      const { payment } = conclusion;
      const row = states.get(payment.id);
      if (!row) return [];
      const ended =
        row.state === 'settlement_failed' && conclusion.state === 'responded'
          ? { payment, state: row.state, failure: row.failure ?? sentInVain }
          : conclusion;
      return [[payment.id, ended] as const];
    }),
  );
}

/** How these payments stand now. */
export async function findSettlements(
  sql: Sql,
  payments: readonly Pick<Payment, 'environmentId' | 'id'>[],
): Promise<Pick<Payment, 'failure' | 'id' | 'state' | 'transaction'>[]> {
  return sql.query(
    `SELECT p.id, p.state, p.transaction, p.failure FROM payments p
     JOIN unnest($1::text[], $2::text[]) AS k (environment_id, id)
       ON p.environment_id = k.environment_id AND p.id = k.id`,
    [payments.map((payment) => payment.environmentId), payments.map((payment) => payment.id)],
  );
}

/** Blocks that transactions of ours were mined in and that may still go, those first that were looked at longest ago. */
export async function findMinedBlocks(sql: Sql, network: string, limit: number): Promise<Block[]> {
  return sql.query<Block>(
    `SELECT block_number AS number, block_hash AS hash FROM settlement_transactions
     WHERE network = $1 AND state = 'mined' GROUP BY block_number, block_hash ORDER BY min(checked_at) LIMIT $2`,
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

/** These blocks are still the chain's; what was mined up to the settled one stays for good. */
export async function keepMined(
  sql: Sql,
  network: string,
  blocks: readonly Block[],
  settled: bigint,
  now: Date,
): Promise<void> {
  if (blocks.length === 0) return;
  await sql.query(
    `UPDATE settlement_transactions t SET checked_at = $5,
       state = CASE WHEN t.block_number <= $4 THEN 'final' ELSE 'mined' END
     FROM unnest($2::bigint[], $3::text[]) AS k (number, hash)
     WHERE t.network = $1 AND t.state = 'mined' AND t.block_number = k.number AND t.block_hash = k.hash`,
    [network, blocks.map(({ number }) => number), blocks.map(({ hash }) => hash), settled, now],
  );
}

/** The transaction is in another block now. */
export async function moveToBlock(
  sql: Sql,
  transaction: SettlementTransaction,
  block: Block,
  now: Date,
): Promise<void> {
  await sql.query(
    `UPDATE settlement_transactions SET block_number = $4, block_hash = $5, checked_at = $6
     WHERE network = $1 AND relayer = $2 AND relayer_nonce = $3 AND state = 'mined'`,
    [transaction.network, transaction.relayer, transaction.relayerNonce, block.number, block.hash, now],
  );
}

/**
 * The chain has forgotten the transaction: it is as if it had been sent and nobody watched it. Its payments are on their way again,
 * but for those that another transaction has taken since. Gives the ids of the payments that are.
 */
export async function reopenTransaction(
  sql: Sql,
  transaction: SettlementTransaction,
  now: Date,
): Promise<Set<string>> {
  const key = [transaction.network, transaction.relayer, transaction.relayerNonce];
  const reopened = await sql.query(
    `UPDATE settlement_transactions
     SET state = 'sent', lease_until = $4, block_number = NULL, block_hash = NULL, checked_at = NULL
     WHERE network = $1 AND relayer = $2 AND relayer_nonce = $3 AND state = 'mined' RETURNING relayer_nonce`,
    [...key, now],
  );
  if (reopened.length === 0) return new Set();
  const rows = await sql.query<{ id: string }>(
    `UPDATE payments p SET state = 'settling', transaction = NULL, settled_at = NULL, failure = NULL, updated_at = $5
     FROM settlement_items i
     WHERE i.network = $1 AND i.relayer = $2 AND i.relayer_nonce = $3
       AND p.environment_id = i.environment_id AND p.id = i.payment_id
       AND (p.state = 'settlement_failed' OR (p.state = 'settled' AND p.transaction = ANY ($4::text[])))
     RETURNING p.id`,
    [...key, transaction.hashes, now],
  );
  return new Set(rows.map((row) => row.id));
}
