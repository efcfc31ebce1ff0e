import type { Sql } from '../../db/index.ts';
import type { Payment } from '../payments/payment.ts';
import type { Block } from '../chain/receipts.ts';
import { paymentColumns } from '../payments/payments.sql.ts';
import { isDue } from './refunds.sql.ts';

/** A payment that was sent this often and not settled isn't sent again: each time has cost gas. */
const attemptsMax = 5;

/**
 * Takes answered payments for a transaction. Those that another process has, that are settled, or that give back what was never taken
 * aren't among the result.
 */
export async function takeForSettling(sql: Sql, payments: readonly Payment[]): Promise<Payment[]> {
  return sql.query<Payment>(
    `UPDATE payments p SET state = 'settling', failure = NULL, updated_at = now()
     FROM unnest($1::text[], $2::text[]) AS k (environment_id, id)
     -- A parameter, so that it is found by its key, as where an attempt ends.
     WHERE p.environment_id = k.environment_id AND p.id = k.id AND p.state = ANY ($3::text[])
       AND p.settle_attempts < ${attemptsMax} AND ${isDue}
     RETURNING ${paymentColumns}`,
    [
      payments.map((payment) => payment.environmentId),
      payments.map((payment) => payment.id),
      ['responded', 'settlement_failed'],
    ],
  );
}

/** What became of a payment, as its row will say. */
export type Conclusion =
  /** Back to being answered: its transaction ended without a word about it. */
  | { payment: Payment; state: 'responded' }
  /** `isWatchedByItself`: its block is, as no transaction of ours is watched that has settled it. */
  | {
      payment: Payment;
      state: 'settled';
      transaction: string;
      block: Block;
      isWatchedByItself?: true;
    }
  /** `byPayer`: what its payer has done has made it worth nothing. */
  | { payment: Payment; state: 'settlement_failed'; failure: string; byPayer: boolean };

/** What a payment fails with that was sent as often as it may be, and never mined with its transfer (specification v2, section 9). */
const sentInVain = 'unexpected_settle_error';
/** Of `p` with its conclusion `k`: back to waiting, and no turn left. */
const isLast = `(k.state = 'responded' AND p.state = 'settling' AND p.settle_attempts + 1 >= ${attemptsMax})`;

/** Writes conclusions of payments that are in one of these states; gives those that were, by id, as their rows say it. What has failed
 * in the same way before has been told. When they were settled is said by the database's clock, as other processes compare it. */
export async function concludePayments(
  sql: Sql,
  conclusions: readonly Conclusion[],
  from: readonly ('responded' | 'settlement_failed' | 'settling')[],
): Promise<Map<string, Conclusion>> {
  const rows = await sql.query<Pick<Payment, 'failure' | 'id' | 'state'>>(
    `UPDATE payments p SET transaction = k.transaction, updated_at = now(),
       state = CASE WHEN ${isLast} THEN 'settlement_failed' ELSE k.state END,
       failure = CASE WHEN ${isLast} THEN '${sentInVain}' ELSE k.failure END,
       settled_at = CASE WHEN k.state = 'settled' THEN now() END, settled_block = k.settled_block,
       settle_attempts = settle_attempts + CASE WHEN k.state <> 'settled' AND p.state = 'settling' THEN 1 ELSE 0 END
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $7::bigint[])
       AS k (environment_id, id, state, transaction, failure, settled_block)
     WHERE p.environment_id = k.environment_id AND p.id = k.id AND p.state = ANY ($6::text[])
       AND (p.state, k.state, p.failure) IS DISTINCT FROM ('settlement_failed', 'settlement_failed', k.failure)
     RETURNING p.id, p.state, p.failure`,
    [
      conclusions.map(({ payment }) => payment.environmentId),
      conclusions.map(({ payment }) => payment.id),
      conclusions.map(({ state }) => state),
      conclusions.map((one) => (one.state === 'settled' ? one.transaction : null)),
      conclusions.map((one) => (one.state === 'settlement_failed' ? one.failure : null)),
      from,
      conclusions.map((one) => (one.state === 'settled' ? one.block.number : null)),
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
          ? { payment, state: row.state, failure: row.failure ?? sentInVain, byPayer: false }
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

/**
 * The newest block by whose balance one of these was let in, whichever process has seen it. Of what has run out nobody's money is asked: a
 * block that there never was, as an RPC may once have told, holds nothing for longer.
 */
export async function findFundsBlock(
  sql: Sql,
  payments: readonly Pick<Payment, 'environmentId' | 'id'>[],
): Promise<bigint> {
  const [row] = await sql.query<{ block: bigint | null }>(
    `SELECT max(p.funds_block) AS block FROM payments p
     JOIN unnest($1::text[], $2::text[]) AS k (environment_id, id)
       ON p.environment_id = k.environment_id AND p.id = k.id
     WHERE p.valid_before > extract(epoch FROM now())`,
    [payments.map((payment) => payment.environmentId), payments.map((payment) => payment.id)],
  );
  return row?.block ?? 0n;
}
