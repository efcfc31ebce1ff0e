import { calculateJwkThumbprint, CompactSign, exportJWK, generateKeyPair, type JWK } from 'jose';
import { createOrganisation, findEnvironment } from '../../src/accounts/index.ts';
import type { Database } from '../../src/db/index.ts';
import type { EnvironmentId } from '../../src/kernel/ids.ts';
import { issueCredits } from '../../src/wallet/index.ts';
import { testContext } from './database.ts';
import { askTerms, encode } from './payer.ts';

/** An environment that pays with credits, and how its payments are signed: not by our own code. */
export interface Buyer {
  environmentId: EnvironmentId;
  /** The public half of its key, as it is registered. */
  jwk: JWK;
  /** A payment as the header's value, for what a 402 of this URL offers in credits. */
  pay(url: string, change?: Change): Promise<string>;
}

/** What a test does to a payment before it is signed. */
export interface Change {
  header?: Record<string, unknown>;
  claims?: Record<string, unknown>;
  /** Signs in place of the buyer's own key. */
  key?: CryptoKey;
  /** In place of the signed JWS. */
  forge?(jws: string): string;
}

/** A new environment with this much to spend; its key isn't registered yet. */
export async function newBuyer(
  db: Database,
  options: { credits: bigint; algorithm?: 'ES256' | 'EdDSA'; kind?: 'production' },
): Promise<Buyer> {
  const { algorithm = 'ES256', credits } = options;
  const created = await createOrganisation(testContext(db), 'A buyer');
  if (options.kind)
    await db.query('UPDATE environments SET kind = $2 WHERE id = $1', [created.id, options.kind]);
  const environment = await findEnvironment(db, created.id);
  if (!environment) throw new Error('the environment is gone');
  if (credits > 0n) {
    const issue = { amount: credits, key: `test/${environment.id}`, reason: 'a test' };
    await issueCredits(testContext(db), environment, issue);
  }
  const { publicKey, privateKey } = await generateKeyPair(algorithm, { extractable: true });
  const jwk = await exportJWK(publicKey);
  return {
    environmentId: environment.id,
    jwk,
    async pay(url, change = {}) {
      const terms = await askTerms(url);
      const accepted = terms.accepts.find(({ network }) => network === 'credence:credits');
      if (!accepted) throw new Error('no credits are taken');
      const iat = Math.floor(Date.now() / 1000);
      const claims = {
        payer: environment.id,
        payee: accepted.payTo,
        amount: accepted.amount,
        asset: accepted.asset,
        aud: accepted.extra['audience'],
        jti: crypto.randomUUID(),
        iat,
        exp: iat + accepted.maxTimeoutSeconds,
        ...change.claims,
      };
      const header = {
        alg: algorithm,
        typ: 'credence-credit+jwt',
        kid: await calculateJwkThumbprint(jwk),
        ...change.header,
      };
      const jws = await new CompactSign(Buffer.from(JSON.stringify(claims)))
        .setProtectedHeader(header)
        .sign(change.key ?? privateKey, { crit: { x: true } });
      const payload = { jws: change.forge?.(jws) ?? jws };
      return encode({ x402Version: 2, accepted, payload, extensions: terms.extensions });
    },
  };
}
