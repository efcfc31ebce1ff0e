import type { Sql } from '../../db/index.ts';
import type { Payment, PaymentKey } from '../payments/payment.ts';

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
 * Writes claims with their payments, and by which block's balances they were let in; gives the ids of those whose authorisation nobody had
 * claimed before: the primary key decides.
 */
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
