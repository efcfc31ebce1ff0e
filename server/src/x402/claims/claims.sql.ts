import type { Sql } from '../../db/index.ts';
import type { Delivery, Payment, PaymentKey, PaymentState } from '../payments/payment.ts';
import type { PayerKey } from './payers.sql.ts';
import { paymentColumns } from '../payments/payments.sql.ts';

/** A payer's row, as it stands once it is locked. */
export interface LockedPayer {
  network: string;
  asset: string;
  payer: string;
  suspendedUntil: Date | null;
}

/** Holds these payers' rows until the transaction ends, in their order, so that claims on their money are looked at one after another. */
export async function lockPayers(sql: Sql, keys: readonly PaymentKey[]): Promise<LockedPayer[]> {
  const columns = [
    keys.map(({ network }) => network),
    keys.map(({ asset }) => asset),
    keys.map(({ payer }) => payer),
  ];
  const [, rows] = await Promise.all([
    sql.query(
      `INSERT INTO payers (network, asset, payer)
       SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[]) ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING`,
      columns,
    ),
    sql.query<LockedPayer>(
      `SELECT network, asset, payer, suspended_until FROM payers
       WHERE (network, asset, payer) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))
       ORDER BY network, asset, payer FOR NO KEY UPDATE`,
      columns,
    ),
  ]);
  return rows;
}

/** Which of these authorisations were claimed before, by their place in the list. */
export async function findClaimed(sql: Sql, keys: readonly PaymentKey[]): Promise<Set<number>> {
  const rows = await sql.query<{ place: bigint }>(
    `SELECT k.place FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
       WITH ORDINALITY AS k (network, asset, payer, nonce, place)
     JOIN payment_claims c USING (network, asset, payer, nonce)`,
    [
      keys.map(({ network }) => network),
      keys.map(({ asset }) => asset),
      keys.map(({ payer }) => payer),
      keys.map(({ nonce }) => nonce),
    ],
  );
  return new Set(rows.map(({ place }) => Number(place) - 1));
}

/**
 * For each payment, what its payer's other payments here will still take from a balance of that block, or have taken in later ones: a node
 * may be behind the one that told of them, whichever process it told. Settlements of which the block isn't known count from
 * when the balance was read, by the database's clock; and so do all where the balance's isn't. Asked for under the payers' locks.
 */
export async function sumClaimed(
  sql: Sql,
  asks: readonly {
    payment: PayerKey & { id: string };
    balanceReadAt: Date;
    balanceBlock?: bigint | undefined;
  }[],
): Promise<bigint[]> {
  const rows = await sql.query<{ claimed: bigint }>(
    `SELECT coalesce((
         SELECT sum(amount) FROM payments p
         WHERE p.network = k.network AND p.asset = k.asset AND p.payer = k.payer
           AND p.state IN ('forwarding', 'responded', 'settling') AND p.id <> k.id), 0)
       + coalesce((
         SELECT sum(amount) FROM payments p
         WHERE p.network = k.network AND p.asset = k.asset AND p.payer = k.payer AND p.settled_block > k.read_block), 0)
       + coalesce((
         SELECT sum(amount) FROM payments p
         WHERE p.network = k.network AND p.asset = k.asset AND p.payer = k.payer
           AND p.settled_at >= k.read_at AND p.settled_block IS NULL), 0)
       + CASE WHEN k.read_block IS NULL THEN coalesce((
         SELECT sum(amount) FROM payments p
         WHERE p.network = k.network AND p.asset = k.asset AND p.payer = k.payer
           AND p.settled_at >= k.read_at AND p.settled_block IS NOT NULL), 0) ELSE 0 END AS claimed
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[])
       WITH ORDINALITY AS k (network, asset, payer, id, read_at, read_block, place) ORDER BY k.place`,
    [
      asks.map(({ payment }) => payment.network),
      asks.map(({ payment }) => payment.asset),
      asks.map(({ payment }) => payment.payer),
      asks.map(({ payment }) => payment.id),
      asks.map(({ balanceReadAt }) => balanceReadAt),
      asks.map(({ balanceBlock }) => balanceBlock ?? null),
    ],
  );
  return rows.map(({ claimed }) => claimed);
}

/** What is owed by payments that were answered before they are settled. */
export interface Owed {
  /** Test money and real money have nothing to do with each other. */
  byNetwork: ReadonlyMap<string, bigint>;
  byServer: ReadonlyMap<string, bigint>;
  byPayer: ReadonlyMap<string, bigint>;
}

const owedLock = 402_001;

/**
 * Sums what optimistic payments owe, on these payers' networks, to these servers, and by these payers (`network asset payer`). Takes a lock that
 * lasts until the transaction ends, so that nobody adds to it meanwhile.
 */
export async function sumOwed(
  sql: Sql,
  serverIds: readonly string[],
  payers: readonly PaymentKey[],
): Promise<Owed> {
  const [, owed, byPayer] = await Promise.all([
    sql.query('SELECT pg_advisory_xact_lock($1)', [owedLock]),
    sql.query<{ network: string | null; serverId: string | null; amount: bigint }>(
      `SELECT network, server_id, sum(amount) AS amount FROM payments
       WHERE mode = 'optimistic' AND state IN ('forwarding', 'responded', 'settling') AND network = ANY ($2::text[])
       GROUP BY GROUPING SETS ((network), (server_id)) HAVING server_id IS NULL OR server_id = ANY ($1::text[])`,
      [serverIds, [...new Set(payers.map(({ network }) => network))]],
    ),
    sql.query<{ network: string; asset: string; payer: string; amount: bigint }>(
      // Each payer by its index: joined, all that is owed would be held against each payer of the batch.
      `SELECT k.network, k.asset, k.payer, owed.amount
       FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[])) AS k (network, asset, payer)
       CROSS JOIN LATERAL (
         SELECT sum(amount) AS amount FROM payments p
         WHERE p.network = k.network AND p.asset = k.asset AND p.payer = k.payer
           AND p.mode = 'optimistic' AND p.state IN ('forwarding', 'responded', 'settling')
       ) owed WHERE owed.amount IS NOT NULL`,
      [
        payers.map(({ network }) => network),
        payers.map(({ asset }) => asset),
        payers.map(({ payer }) => payer),
      ],
    ),
  ]);
  return {
    byNetwork: new Map(owed.flatMap(({ network, amount }) => (network === null ? [] : [[network, amount]]))),
    byServer: new Map(
      owed.flatMap(({ serverId, amount }) => (serverId === null ? [] : [[serverId, amount]])),
    ),
    byPayer: new Map(
      byPayer.map(({ network, asset, payer, amount }) => [`${network} ${asset} ${payer}`, amount]),
    ),
  };
}

/** Writes claims with their payments, and by which block's balances they were let in; gives the ids of those whose authorisation nobody had claimed before: the primary key decides. */
export async function insertClaims(
  sql: Sql,
  claims: readonly { payment: Payment; fingerprint: Buffer; fundsBlock?: bigint | undefined }[],
  now: Date,
): Promise<Set<string>> {
  const payments = claims.map(({ payment }) => payment);
  const column = <Name extends keyof Payment>(name: Name) => payments.map((payment) => payment[name]);
  const rows = await sql.query<{ id: string }>(
    `WITH given AS (
       SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
         $9::text[], $10::numeric[], $11::bigint[], $12::bigint[], $13::text[], $14::text[], $15::boolean[], $16::text[],
         $17::bytea[], $18::text[], $19::text[], $20::int[], $21::timestamptz[], $22::bytea[], $24::text[], $25::text[], $26::bigint[])
         AS g (environment_id, id, server_id, endpoint_id, network, asset, payer, nonce, pay_to, amount, valid_after,
           valid_before, signature, agent_id, agent_verified, client_address, terms_secret_hash, mode, state, attempt,
           lease_until, fingerprint, delivery, refund_of, funds_block)
     ), claimed AS (
       INSERT INTO payment_claims (network, asset, payer, nonce, environment_id, payment_id, fingerprint, created_at)
       SELECT network, asset, payer, nonce, environment_id, id, fingerprint, $23 FROM given
       ORDER BY network, asset, payer, nonce ON CONFLICT DO NOTHING RETURNING payment_id
     )
     INSERT INTO payments (environment_id, id, server_id, endpoint_id, network, asset, payer, nonce, pay_to, amount,
       valid_after, valid_before, signature, agent_id, agent_verified, client_address, terms_secret_hash, mode, state,
       attempt, lease_until, delivery, refund_of, funds_block, created_at, updated_at)
     SELECT environment_id, id, server_id, endpoint_id, network, asset, payer, nonce, pay_to, amount,
       valid_after, valid_before, signature, agent_id, agent_verified, client_address, terms_secret_hash, mode, state,
       attempt, now() + (lease_until - $23::timestamptz), delivery, refund_of, funds_block, $23, now()
     FROM given WHERE id IN (SELECT payment_id FROM claimed) RETURNING id`,
    [
      column('environmentId'),
      column('id'),
      column('serverId'),
      column('endpointId'),
      column('network'),
      column('asset'),
      column('payer'),
      column('nonce'),
      column('payTo'),
      column('amount'),
      column('validAfter'),
      column('validBefore'),
      column('signature'),
      column('agentId'),
      column('agentVerified'),
      column('clientAddress'),
      column('termsSecretHash'),
      column('mode'),
      column('state'),
      column('attempt'),
      column('leaseUntil'),
      claims.map(({ fingerprint }) => fingerprint),
      now,
      column('delivery'),
      column('refundOf'),
      claims.map(({ fundsBlock }) => fundsBlock ?? null),
    ],
  );
  return new Set(rows.map(({ id }) => id));
}

/**
 * Starts one more upstream attempt of each, or has it settled first where it is to be paid upfront now; those that another has, or that are past that, aren't among the result. Leases are
 * compared by several processes, so they run by the database's clock: a caller's says only how long they are.
 */
export async function beginAttempts(
  sql: Sql,
  attempts: readonly { payment: Payment; fundsBlock: bigint | undefined }[],
  leaseUntil: Date,
  now: Date,
): Promise<Payment[]> {
  const payments = attempts.map(({ payment }) => payment);
  return sql.query<Payment>(
    `UPDATE payments p SET mode = k.mode, failure = NULL, updated_at = now(),
       state = CASE WHEN k.mode = 'upfront' THEN 'responded' ELSE 'forwarding' END,
       attempt = attempt + CASE WHEN k.mode = 'upfront' THEN 0 ELSE 1 END,
       lease_until = CASE WHEN k.mode <> 'upfront' THEN now() + ($4::timestamptz - $3::timestamptz) END,
       delivery = CASE WHEN k.mode = 'upfront' THEN 'owed' ELSE delivery END, funds_block = k.funds_block
     FROM unnest($1::text[], $2::text[], $5::text[], $6::bigint[]) AS k (environment_id, id, mode, funds_block)
     WHERE p.environment_id = k.environment_id AND p.id = k.id
       AND (p.state = 'open' OR (p.state = 'forwarding' AND p.lease_until <= now()))
     RETURNING ${paymentColumns}`,
    [
      payments.map((payment) => payment.environmentId),
      payments.map(({ id }) => id),
      now,
      leaseUntil,
      payments.map(({ mode }) => mode),
      attempts.map(({ fundsBlock }) => fundsBlock ?? null),
    ],
  );
}

/** How an attempt ends, as its payment's row will say. */
export interface EndedAttempt {
  payment: Payment;
  state: Extract<PaymentState, 'open' | 'responded' | 'settled'>;
  failure: string | null;
  transaction: string | null;
  /** Of a stream whose client has nothing of it yet: running, until the lease is over. */
  delivery: Extract<Delivery, 'running'> | null;
  leaseUntil: Date | null;
  replayable: boolean;
  stored: { status: number; sealed: Buffer; bodyHash: Buffer } | null;
}

/** Ends attempts, with the answers that they stored; gives the ids of those that were still their payments' own. */
export async function endAttempts(
  sql: Sql,
  ended: readonly EndedAttempt[],
  now: Date,
  storedUntil: Date,
): Promise<Set<string>> {
  const rows = await sql.query<{ id: string }>(
    `WITH given AS (
       SELECT * FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::boolean[], $8::int[],
         $9::bytea[], $10::bytea[], $13::text[], $14::timestamptz[])
         AS g (environment_id, id, attempt, state, failure, transaction, replayable, status, sealed, body_hash, delivery, lease_until)
     ), ended AS (
       UPDATE payments p SET state = g.state, lease_until = now() + (g.lease_until - $11::timestamptz), failure = g.failure, transaction = g.transaction,
         delivery = g.delivery, replayable = g.replayable, settled_at = CASE WHEN g.state = 'settled' THEN now() END, updated_at = now()
       FROM given g
       -- A parameter, so that it is found by its key: the index of those that are unfinished is full of those that were.
       WHERE p.environment_id = g.environment_id AND p.id = g.id AND p.state = $15 AND p.attempt = g.attempt
       RETURNING p.environment_id, p.id
     ), stored AS (
       INSERT INTO stored_responses (environment_id, payment_id, status, sealed, body_hash, created_at, expires_at)
       SELECT g.environment_id, g.id, g.status, g.sealed, g.body_hash, $11, $12
       FROM given g JOIN ended USING (environment_id, id) WHERE g.sealed IS NOT NULL
     )
     SELECT id FROM ended`,
    [
      ended.map(({ payment }) => payment.environmentId),
      ended.map(({ payment }) => payment.id),
      ended.map(({ payment }) => payment.attempt),
      ended.map(({ state }) => state),
      ended.map(({ failure }) => failure),
      ended.map(({ transaction }) => transaction),
      ended.map(({ replayable }) => replayable),
      ended.map(({ stored }) => stored?.status ?? null),
      ended.map(({ stored }) => stored?.sealed ?? null),
      ended.map(({ stored }) => stored?.bodyHash ?? null),
      now,
      storedUntil,
      ended.map(({ delivery }) => delivery),
      ended.map(({ leaseUntil }) => leaseUntil),
      'forwarding',
    ],
  );
  return new Set(rows.map(({ id }) => id));
}

/** Takes back claims of this transaction that there turned out to be no credits for: nobody has seen them. */
export async function withdrawClaims(sql: Sql, payments: readonly Payment[]): Promise<void> {
  const names = [payments.map((payment) => payment.environmentId), payments.map(({ id }) => id)];
  await Promise.all([
    sql.query(
      `DELETE FROM payments p USING unnest($1::text[], $2::text[]) AS k (environment_id, id)
       WHERE p.environment_id = k.environment_id AND p.id = k.id`,
      names,
    ),
    sql.query(
      `DELETE FROM payment_claims c USING unnest($1::text[], $2::text[], $3::text[], $4::text[])
         AS k (network, asset, payer, nonce)
       WHERE (c.network, c.asset, c.payer, c.nonce) = (k.network, k.asset, k.payer, k.nonce)`,
      [
        payments.map(({ network }) => network),
        payments.map(({ asset }) => asset),
        payments.map(({ payer }) => payer),
        payments.map(({ nonce }) => nonce),
      ],
    ),
  ]);
}
