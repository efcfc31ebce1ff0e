import type { Address, Hex } from 'viem';
import type { Sql } from '../db/index.ts';
import type { Payment } from './payment.ts';
import { paymentColumns } from './payments.sql.ts';
import type { Block } from './receipts.ts';

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

/** Writes conclusions of payments that are in one of these states; gives the ids of those that were. */
export async function concludePayments(
  sql: Sql,
  conclusions: readonly Conclusion[],
  from: readonly ('responded' | 'settlement_failed' | 'settling')[],
  now: Date,
): Promise<Set<string>> {
  const rows = await sql.query<{ id: string }>(
    `UPDATE payments p SET state = k.state, transaction = k.transaction, failure = k.failure, updated_at = $7,
       settled_at = CASE WHEN k.state = 'settled' THEN $7::timestamptz END,
       settle_attempts = settle_attempts + CASE WHEN k.state <> 'settled' AND p.state = 'settling' THEN 1 ELSE 0 END
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
       AS k (environment_id, id, state, transaction, failure)
     WHERE p.environment_id = k.environment_id AND p.id = k.id AND p.state = ANY ($6::text[])
     RETURNING p.id`,
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
  return new Set(rows.map((row) => row.id));
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
