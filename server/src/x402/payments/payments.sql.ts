import type { Sql } from '../../db/index.ts';
import { creditsNetwork } from '../credits/credit-payment.ts';
import type { Payment, PaymentKey, PaymentState } from './payment.ts';

/** Of `payments p`. */
export const paymentColumns = `p.environment_id, p.id, p.server_id, p.endpoint_id, p.network, p.asset, p.payer, p.nonce, p.pay_to,
  p.amount, p.valid_after, p.valid_before, p.signature, p.agent_id, p.agent_verified, p.client_address,
  p.terms_secret_hash, p.mode, p.state, p.attempt, p.lease_until, p.delivery, p.replayable, p.transaction, p.failure, p.refund_of, p.created_at, p.settled_at`;

/** Of `payments p`: those that a chain settles. What credits pay for is in none of the indexes that are theirs. */
export const isOnChain = `p.network <> '${creditsNetwork}'`;

export interface Claim {
  payment: Payment;
  /** What the payment may be used for: SHA-256 over method, path, query and body. */
  fingerprint: Buffer;
}

/** The claim on this authorisation, if it was ever presented here. */
export async function findClaim(sql: Sql, key: PaymentKey): Promise<Claim | undefined> {
  const [row] = await sql.query<Payment & { fingerprint: Buffer }>(
    `SELECT ${paymentColumns}, c.fingerprint
     FROM payment_claims c JOIN payments p ON p.environment_id = c.environment_id AND p.id = c.payment_id
     WHERE c.network = $1 AND c.asset = $2 AND c.payer = $3 AND c.nonce = $4`,
    [key.network, key.asset, key.payer, key.nonce],
  );
  if (!row) return undefined;
  const { fingerprint, ...payment } = row;
  return { payment, fingerprint };
}

/** How large a stored answer is; nothing once it has been swept. */
export async function findStoredBytes(
  sql: Sql,
  payment: Pick<Payment, 'environmentId' | 'id'>,
): Promise<number | undefined> {
  const [row] = await sql.query<{ bytes: number | null }>(
    'SELECT octet_length(sealed) AS bytes FROM stored_responses WHERE environment_id = $1 AND payment_id = $2',
    [payment.environmentId, payment.id],
  );
  return row?.bytes ?? undefined;
}

export async function findSealedResponse(
  sql: Sql,
  payment: Pick<Payment, 'environmentId' | 'id'>,
): Promise<{ status: number; sealed: Buffer | null } | undefined> {
  const [row] = await sql.query<{ status: number; sealed: Buffer | null }>(
    'SELECT status, sealed FROM stored_responses WHERE environment_id = $1 AND payment_id = $2',
    [payment.environmentId, payment.id],
  );
  return row;
}

/** The hash under which a payment's transaction was last sent, while the chain hasn't spoken on it. */
export async function findPendingTransaction(
  sql: Sql,
  payment: Pick<Payment, 'environmentId' | 'id' | 'network'>,
): Promise<string | undefined> {
  const [row] = await sql.query<{ hash: string }>(
    `SELECT t.hashes[cardinality(t.hashes)] AS hash
     FROM settlement_transactions t JOIN settlement_items i USING (network, relayer, relayer_nonce)
     WHERE t.network = $1 AND t.state = 'sent' AND i.environment_id = $2 AND i.payment_id = $3`,
    [payment.network, payment.environmentId, payment.id],
  );
  return row?.hash;
}

/** A payment, and until when its stored answer can be fetched with it. */
export interface ListedPayment {
  payment: Payment;
  answerKeptUntil: Date | null;
}

const listedColumns = `${paymentColumns}, CASE WHEN r.sealed IS NOT NULL THEN r.expires_at END AS answer_kept_until`;
const listedTables = `payments p LEFT JOIN stored_responses r
  ON r.environment_id = p.environment_id AND r.payment_id = p.id`;

/** One payment as its seller, or its payer, looks at it. */
export async function findListedPayment(
  sql: Sql,
  key: Pick<Payment, 'environmentId' | 'id'>,
): Promise<ListedPayment | undefined> {
  const [row] = await sql.query<ListedRow>(
    `SELECT ${listedColumns} FROM ${listedTables} WHERE p.environment_id = $1 AND p.id = $2`,
    [key.environmentId, key.id],
  );
  return row && toListed(row);
}

export interface PaymentFilter {
  environmentId: string;
  /** Empty: whatever its state. */
  states: readonly PaymentState[];
  serverId: string | null;
  payer: string | null;
  createdFrom: Date | null;
  createdBefore: Date | null;
  /** The id that the last page ended with. */
  before: string | null;
  limit: number;
}

/** An environment's payments, newest first. */
export async function listPayments(sql: Sql, filter: PaymentFilter): Promise<ListedPayment[]> {
  const rows = await sql.query<ListedRow>(
    `SELECT ${listedColumns} FROM ${listedTables}
     WHERE p.environment_id = $1 AND p.environment_id <> '' AND ($2::text IS NULL OR p.id < $2)
       AND (cardinality($3::text[]) = 0 OR p.state = ANY ($3)) AND ($4::text IS NULL OR p.server_id = $4)
       AND ($5::text IS NULL OR p.payer = $5) AND ($6::timestamptz IS NULL OR p.created_at >= $6)
       AND ($7::timestamptz IS NULL OR p.created_at < $7)
     ORDER BY p.id DESC LIMIT $8`,
    [
      filter.environmentId,
      filter.before,
      filter.states,
      filter.serverId,
      filter.payer,
      filter.createdFrom,
      filter.createdBefore,
      filter.limit,
    ],
  );
  return rows.map(toListed);
}

type ListedRow = Payment & { answerKeptUntil: Date | null };

function toListed({ answerKeptUntil, ...payment }: ListedRow): ListedPayment {
  return { payment, answerKeptUntil };
}

/** Bodies that are freed in one statement: each may have megabytes, and what it locks and logs stays small. */
const sweptAtOnce = 500;
/** A round of the workers goes on to its other work after so many; the next is soon. */
const sweepsMax = 20;

/** Frees the bodies that nobody may fetch any more, the oldest first; status and hash stay. Gives how many. */
export async function sweepStoredResponses(sql: Sql, now: Date): Promise<number> {
  let swept = 0;
  for (let sweep = 0; sweep < sweepsMax; sweep += 1) {
    const rows = await sql.query(
      `UPDATE stored_responses s SET sealed = NULL FROM (
         SELECT environment_id, payment_id FROM stored_responses
         WHERE expires_at <= $1 AND sealed IS NOT NULL
         ORDER BY expires_at LIMIT ${sweptAtOnce} FOR UPDATE SKIP LOCKED) AS old
       WHERE s.environment_id = old.environment_id AND s.payment_id = old.payment_id RETURNING s.payment_id`,
      [now],
    );
    swept += rows.length;
    if (rows.length < sweptAtOnce) break;
  }
  return swept;
}
