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

/** Of `settlement_transactions t`. */
export const transactionColumns = 't.network, t.relayer, t.relayer_nonce, t.hashes, t.raw, t.signed_at';

export async function insertTransaction(
  sql: Sql,
  transaction: SettlementTransaction,
  payments: readonly Payment[],
  leaseSeconds: number,
): Promise<void> {
  const { network, relayer, relayerNonce } = transaction;
  await sql.query(
    `WITH inserted AS (
       INSERT INTO settlement_transactions
         (network, relayer, relayer_nonce, hashes, raw, state, lease_until, signed_at)
       VALUES ($1, $2, $3, $4, $5, 'sent', now() + make_interval(secs => $6), now()))
     INSERT INTO settlement_items (network, relayer, relayer_nonce, position, environment_id, payment_id)
     SELECT $1, $2, $3, k.position, k.environment_id, k.payment_id
     FROM unnest($7::text[], $8::text[]) WITH ORDINALITY AS k (environment_id, payment_id, position)`,
    [
      network,
      relayer,
      relayerNonce,
      transaction.hashes,
      transaction.raw,
      leaseSeconds,
      payments.map((payment) => payment.environmentId),
      payments.map((payment) => payment.id),
    ],
  );
}

/**
 * Takes over transactions that nobody has watched for as long as their lease. Leases run by the database's clock, as several processes
 * look at them; what is given back says by the taker's when they were signed.
 */
export async function takeUnwatched(
  sql: Sql,
  args: { network: string; now: Date; leaseSeconds: number; limit: number },
): Promise<SettlementTransaction[]> {
  return sql.query<SettlementTransaction>(
    `UPDATE settlement_transactions t SET lease_until = now() + make_interval(secs => $3)
     WHERE (t.network, t.relayer, t.relayer_nonce) IN (
       SELECT network, relayer, relayer_nonce FROM settlement_transactions
       WHERE network = $1 AND state = 'sent' AND lease_until <= now()
       ORDER BY lease_until LIMIT $4 FOR UPDATE SKIP LOCKED)
     RETURNING t.network, t.relayer, t.relayer_nonce, t.hashes, t.raw,
       $2::timestamptz - (now() - t.signed_at) AS signed_at`,
    [args.network, args.now, args.leaseSeconds, args.limit],
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
  next: { state: 'final' | 'mined' | 'sent'; block: Block | undefined },
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE settlement_transactions SET state = $4, block_number = $5, block_hash = $6, checked_at = now()
     WHERE network = $1 AND relayer = $2 AND relayer_nonce = $3 AND state = $7 RETURNING relayer_nonce`,
    [
      transaction.network,
      transaction.relayer,
      transaction.relayerNonce,
      next.state,
      next.block?.number ?? null,
      next.block?.hash ?? null,
      'sent',
    ],
  );
  return rows.length > 0;
}

/** Puts another version with the same nonce in the place of one that the chain leaves lying. */
export async function replaceRaw(
  sql: Sql,
  transaction: SettlementTransaction,
  version: { raw: Hex; hash: Hex },
): Promise<void> {
  await sql.query(
    `UPDATE settlement_transactions SET raw = $4, hashes = hashes || $5::text, signed_at = now()
     WHERE network = $1 AND relayer = $2 AND relayer_nonce = $3 AND state = 'sent'`,
    [transaction.network, transaction.relayer, transaction.relayerNonce, version.raw, version.hash],
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
