import { generateKeyPair } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Database } from '../../src/db/index.ts';
import { type Buyer, type Change, newBuyer } from '../helpers/credits.ts';
import { type CreditsScene, openCreditsScene } from '../helpers/credits-scene.ts';
import type { Instance } from '../helpers/instance.ts';
import { decode, sendPaid } from '../helpers/payer.ts';
import { callApi, price, sell } from '../helpers/seller.ts';
import type { Upstream } from '../helpers/upstream.ts';

describe('a payment with credits', { timeout: 30_000 }, () => {
  let scene: CreditsScene;
  let db: Database;
  let first: Instance;
  let upstream: Upstream;
  let buyer: Buyer;
  let url: string;
  let secondUrl: string;

  beforeAll(async () => {
    scene = await openCreditsScene();
    ({ db, first, upstream, url, secondUrl } = scene);
  }, 120_000);
  afterAll(() => scene?.close(), 60_000);
  beforeEach(async () => {
    buyer = await scene.begin();
  });

  const spent = () => scene.spentBy(buyer);

  it.each<[string, string, (seconds: number) => Change | Promise<Change>]>([
    ['an audience of another instance', 'audience', () => ({ claims: { aud: 'https://elsewhere.example' } })],
    ['a list of audiences', 'audience', () => ({ claims: { aud: [first.info.gateway_url] } })],
    ['another payee', 'recipient_mismatch', () => ({ claims: { payee: buyer.environmentId } })],
    ['an atom less', 'amount_mismatch', () => ({ claims: { amount: String(price - 1n) } })],
    ['an atom more', 'amount_mismatch', () => ({ claims: { amount: String(price + 1n) } })],
    ['an end that has passed', 'expiry', (now) => ({ claims: { exp: now - 1 } })],
    ['an end before the call could end', 'expiry', (now) => ({ claims: { exp: now + 50 } })],
    ['an end beyond what anybody asked for', 'expiry', (now) => ({ claims: { exp: now + 3_700 } })],
    ['a time that is yet to come', 'not_before', (now) => ({ claims: { iat: now + 60 } })],
    ['another typ', 'signature', () => ({ header: { typ: 'at+jwt' } })],
    ['no typ', 'signature', () => ({ header: { typ: undefined } })],
    ['a critical extension', 'signature', () => ({ header: { crit: ['x'], x: 1 } })],
    ['a key that nobody registered', 'key', () => ({ header: { kid: 'x'.repeat(43) } })],
    [
      'another key’s signature',
      'signature',
      async () => ({ key: (await generateKeyPair('ES256')).privateKey }),
    ],
    [
      'another algorithm than its key’s',
      'signature',
      async () => ({
        header: { alg: 'EdDSA' },
        key: (await generateKeyPair('EdDSA', { crv: 'Ed25519' })).privateKey,
      }),
    ],
    ['alg none', 'signature', () => ({ forge: withHeader({ alg: 'none' }) })],
    ['a signature of nothing', 'signature', () => ({ forge: (jws) => jws.replace(/[^.]+$/, 'AA') })],
    ['claims that were changed after signing', 'signature', () => ({ forge: withOtherNonce })],
  ])('with %s is refused', async (_, reason, change) => {
    const payment = await buyer.pay(url, await change(Math.floor(Date.now() / 1000)));
    const answer = await sendPaid(url, payment);
    expect(answer.status).toBe(402);
    expect(decode(answer.headers['payment-required']).error).toBe(`invalid_exact_credits_payload_${reason}`);
    expect(upstream.requests).toHaveLength(0);
    expect(await spent()).toBe(0n);
  });

  it.each<[string, Change]>([
    ['no nonce', { claims: { jti: undefined } }],
    ['a short nonce', { claims: { jti: 'short' } }],
    ['no end', { claims: { exp: undefined } }],
    ['an end that is no number', { claims: { exp: '9999999999' } }],
    ['an amount that is a number', { claims: { amount: 10_000 } }],
    ['no payer', { claims: { payer: 'nobody' } }],
    ['an empty signature', { forge: (jws) => jws.replace(/[^.]+$/, '') }],
    ['four parts', { forge: (jws) => `${jws}.AA` }],
    ['no JSON', { forge: () => 'AAAA.AAAA.AAAA' }],
  ])('with %s can’t be read', async (_, change) => {
    const answer = await sendPaid(url, await buyer.pay(url, change));
    expect(answer.json()).toMatchObject({ status: 400, code: 'invalid_payment' });
    expect(upstream.requests).toHaveLength(0);
  });

  it('by another environment’s key is refused: a key pays for its owner alone', async () => {
    const rich = await scene.registered(await newBuyer(db, { credits: price }));
    const answer = await sendPaid(url, await buyer.pay(url, { claims: { payer: rich.environmentId } }));
    expect(decode(answer.headers['payment-required']).error).toBe('invalid_exact_credits_payload_key');
    expect(await scene.accountOf(rich.environmentId)).toEqual({ balance: price, held: 0n });
  });

  it.each([
    ['says so', {}, 'invalid_exact_credits_payload_key'],
    ['names its own currency', { asset: 'USDC' }, 'invalid_payment_requirements'],
  ])('from production to a sandbox is refused, whether it %s or not', async (_, claims, error) => {
    const production = await scene.registered(await newBuyer(db, { credits: price, kind: 'production' }));
    const answer = await sendPaid(url, await production.pay(url, { claims }));
    expect(decode(answer.headers['payment-required']).error).toBe(error);
  });

  it('to a seller who is paid elsewhere is refused', async () => {
    const direct = await sell(first, upstream.url, 'paid-elsewhere');
    const answer = await sendPaid(`${direct.url}/paid`, await buyer.pay(url));
    expect(decode(answer.headers['payment-required']).error).toBe('invalid_network');
  });

  it('by a key that was revoked is refused by every process, also where it had been claimed before; it can’t come back', async () => {
    const credential = await scene.credentialOf(buyer);
    upstream.behave((_, response) => response.writeHead(500).end());
    const open = await buyer.pay(url);
    expect((await sendPaid(secondUrl, open)).status).toBe(502);

    const { data } = (await callApi(first, '/v1/wallet/credit-keys', { credential })).json();
    const path = `/v1/wallet/credit-keys/${data[0].kid}`;
    expect((await callApi(first, path, { method: 'DELETE', credential })).status).toBe(204);
    for (const at of [url, secondUrl]) {
      const error = async (payment: string) =>
        decode((await sendPaid(at, payment)).headers['payment-required'] ?? 'e30=').error;
      await expect.poll(() => buyer.pay(url).then(error), { timeout: 5_000 }).toMatch(/_key$/);
      expect(await error(open)).toMatch(/_key$/);
    }
    const again = { body: { jwk: buyer.jwk, name: 'again' }, credential };
    expect((await callApi(first, '/v1/wallet/credit-keys', again)).status).toBe(409);
    expect((await callApi(first, path, { method: 'DELETE', credential })).status).toBe(404);
    expect(await spent()).toBe(0n);
  });

  it.each([
    ['a private key', { kty: 'OKP', crv: 'Ed25519', x: 'A'.repeat(43), d: 'A'.repeat(43) }],
    ['a point that is on no curve', { kty: 'EC', crv: 'P-256', x: 'A'.repeat(43), y: 'A'.repeat(43) }],
    ['another curve', { kty: 'EC', crv: 'P-384', x: 'A'.repeat(64), y: 'A'.repeat(64) }],
    ['a shared secret', { kty: 'oct', k: 'AAAA' }],
  ])('%s isn’t registered', async (_, jwk) => {
    const credential = await scene.credentialOf(buyer);
    const answer = await callApi(first, '/v1/wallet/credit-keys', { body: { jwk }, credential });
    expect(answer.json()).toMatchObject({ code: 'invalid_request' });
  });
});

/** Another header under the same signature. */
function withHeader(header: object): (jws: string) => string {
  return (jws) => {
    const [head = '', ...rest] = jws.split('.');
    const signed = JSON.parse(Buffer.from(head, 'base64url').toString()) as object;
    return [Buffer.from(JSON.stringify({ ...signed, ...header })).toString('base64url'), ...rest].join('.');
  };
}

function withOtherNonce(jws: string): string {
  const [head, body = '', signature] = jws.split('.');
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as object;
  const changed = Buffer.from(JSON.stringify({ ...claims, jti: crypto.randomUUID() })).toString('base64url');
  return [head, changed, signature].join('.');
}
