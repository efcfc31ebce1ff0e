import type { PaymentPayload, PaymentRequired } from '@x402/core/types';
import { type Hex, parseSignature } from 'viem';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Instance, startInstance } from '../helpers/instance.ts';
import {
  askTerms,
  type Authorization,
  decode,
  encode,
  newPayer,
  openChain,
  type Payer,
  sendPaid,
  settleOnChain,
} from '../helpers/payer.ts';
import { type Answer, send } from '../helpers/request.ts';
import { sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';
import { withPlace } from '../helpers/with-place.ts';

const now = Math.floor(Date.now() / 1000);
const someone = '0x000000000000000000000000000000000000dEaD';
const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

describe('a payment that is garbage', { timeout: 20_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let payer: Payer;
  let terms: PaymentRequired;
  let good: PaymentPayload;
  let url: string;
  const sent: string[] = [];

  beforeAll(async () => {
    instance = await startInstance();
    upstream = await startUpstream((_, response) => response.end('paid for'));
    sold = await sell(instance, upstream.url, 'garbage');
    url = `${sold.url}/paid`;
    payer = await newPayer(instance);
    terms = await askTerms(url);
    good = await payer.pay(terms);
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  const pay = (payment: unknown) => {
    sent.push(typeof payment === 'string' ? payment : encode(payment));
    return sendPaid(url, payment);
  };
  /** The good payment with one place changed, the signature left as it was. */
  const changed = (path: string, value: unknown) => withPlace(good, path, value);
  /** Refused, with fresh terms: the client can do it right the next time. */
  const expectRefused = (answer: Answer, reason: string, code = 'payment_invalid') => {
    expect(answer.status).toBe(402);
    expect(answer.json()).toMatchObject({
      code,
      error: reason,
      accepts: [{ payTo: terms.accepts[0]?.payTo }],
    });
    const again = decode(answer.headers['payment-required']);
    expect(again).toMatchObject({ error: reason, accepts: terms.accepts });
    expect(answer.headers).not.toHaveProperty('payment-response');
  };

  it.each([
    ['nothing', ''],
    ['no base64', '%%%'],
    ['base64url', 'eyJ-_w'],
    ['not JSON', Buffer.from('{"x402Version":').toString('base64')],
    ['bytes that are no UTF-8', Buffer.from([0xff, 0xfe, 0x00]).toString('base64')],
    ['null', encode(null)],
    ['a list', encode([])],
    ['a text', encode('payment')],
    ['a deep nest', Buffer.from('['.repeat(5_000)).toString('base64')],
    ['a prototype', Buffer.from('{"__proto__":{"x402Version":2}}').toString('base64')],
    ['16 KiB and more', encode({ x402Version: 2, padding: 'x'.repeat(13_000) })],
  ])('a header that holds %s is 400', async (_, header) => {
    expectUnread(await pay(header));
  });

  it.each([
    ['x402Version', 1, 'x402Version'],
    ['x402Version', '2', 'x402Version'],
    ['x402Version', undefined, 'x402Version'],
    ['accepted', undefined, 'accepted'],
    ['accepted', 'eip155:84532', 'accepted'],
    ['accepted.scheme', 'upto', 'accepted.scheme'],
    ['accepted.network', 84_532, 'accepted.network'],
    ['accepted.network', 'eip155:\u0000', 'accepted.network'],
    ['accepted.asset', 'USDC', 'accepted.asset'],
    ['payload', null, 'payload'],
    ['payload.signature', 'not hex', 'payload.signature'],
    ['payload.signature', '0xabc', 'payload.signature'],
    ['payload.signature', ['0x'], 'payload.signature'],
    ['payload.authorization', [], 'payload.authorization'],
    ['payload.authorization.from', '0x12', 'payload.authorization.from'],
    ['payload.authorization.to', {}, 'payload.authorization.to'],
    ['payload.authorization.value', 10_000, 'payload.authorization.value'],
    ['payload.authorization.value', '-10000', 'payload.authorization.value'],
    ['payload.authorization.value', '1e4', 'payload.authorization.value'],
    ['payload.authorization.value', '0x2710', 'payload.authorization.value'],
    ['payload.authorization.value', '9'.repeat(400), 'payload.authorization.value'],
    ['payload.authorization.validAfter', '-1', 'payload.authorization.validAfter'],
    ['payload.authorization.validBefore', '9'.repeat(40), 'payload.authorization.validBefore'],
    ['payload.authorization.validBefore', null, 'payload.authorization.validBefore'],
    ['payload.authorization.nonce', '0x01', 'payload.authorization.nonce'],
    ['payload.authorization.nonce', undefined, 'payload.authorization'],
    ['extensions', 'none', 'extensions'],
  ])('%s = %j is 400, and the error names the place', async (path, value, place) => {
    const answer = await pay(changed(path, value));
    expectUnread(answer);
    expect(`${answer.json().detail} `).toContain(` ${place} `);
  });

  it.each<[string, Record<string, string | string[]>]>([
    ['PAYMENT-SIGNATURE twice', { 'payment-signature': ['e30=', 'e30='] }],
    ['PAYMENT-SIGNATURE and X-PAYMENT', { 'payment-signature': 'e30=', 'x-payment': 'e30=' }],
    ['X-PAYMENT twice', { 'x-payment': ['e30=', 'e30='] }],
    ['X-PAYMENT that is none', { 'x-payment': 'e30=' }],
  ])('%s is 400', async (_, headers) => {
    expectUnread(await send(url, { headers: { 'x-agent-id': 'a-buyer', ...headers } }));
  });

  it.each<[string, Partial<Authorization>, string]>([
    ['another recipient', { to: someone }, 'invalid_exact_evm_payload_recipient_mismatch'],
    ['less than the price', { value: '9999' }, 'invalid_exact_evm_payload_authorization_value_mismatch'],
    ['more than the price', { value: '10001' }, 'invalid_exact_evm_payload_authorization_value_mismatch'],
    [
      '2^256 - 1',
      { value: (2n ** 256n - 1n).toString() },
      'invalid_exact_evm_payload_authorization_value_mismatch',
    ],
    [
      'a time that is over',
      { validBefore: String(now - 1) },
      'invalid_exact_evm_payload_authorization_valid_before',
    ],
    [
      'too little time for the call',
      { validBefore: String(now + 50) },
      'invalid_exact_evm_payload_authorization_valid_before',
    ],
    [
      'a time to come',
      { validAfter: String(now + 3600) },
      'invalid_exact_evm_payload_authorization_valid_after',
    ],
  ])('honestly signed for %s, it is 402 with the reason', async (_, change, reason) => {
    expectRefused(await pay(await payer.payWith(terms, change)), reason);
  });

  it.each([
    ['accepted.network', 'eip155:8453', 'invalid_network'],
    ['accepted.network', 'solana:mainnet', 'invalid_network'],
    ['accepted.asset', someone, 'invalid_payment_requirements'],
    ['payload.authorization.from', someone, 'invalid_exact_evm_payload_signature'],
    ['payload.authorization.nonce', `0x${'ab'.repeat(32)}`, 'invalid_exact_evm_payload_signature'],
  ])('with %s changed to %s after signing, it is 402', async (path, value, reason) => {
    expectRefused(await pay(changed(path, value)), reason);
  });

  it.each<[string, (signature: string) => string]>([
    [
      'with a bit flipped',
      (s) => s.slice(0, 20) + (Number.parseInt(s[20] ?? '0', 16) ^ 1).toString(16) + s.slice(21),
    ],
    ['of zeros', () => `0x${'00'.repeat(65)}`],
    ['of ones', () => `0x${'ff'.repeat(65)}`],
    ['that is empty', () => '0x'],
    ['in EIP-2098 form', (s) => s.slice(0, 130)],
    ["of a contract wallet's length", (s) => `${s}${'00'.repeat(96)}`],
    ['in the other half of the curve (EIP-2)', highHalf],
  ])('a signature %s is 402', async (_, mutate) => {
    const signature = mutate(String(good.payload['signature']));
    expectRefused(await pay(changed('payload.signature', signature)), 'invalid_exact_evm_payload_signature');
  });

  it('of a payer without funds is 402 insufficient_funds', async () => {
    const poor = await newPayer(instance, 0n);
    expectRefused(await pay(await poor.pay(terms)), 'insufficient_funds', 'insufficient_funds');
  });

  it("whose nonce was used on chain by somebody else's settlement is 402", async () => {
    const payment = await payer.pay(terms);
    await settleOnChain(instance, payment);
    expectRefused(await pay(payment), 'invalid_transaction_state');
  });

  it('that it was all refused: the upstream heard nothing, nobody was charged, no 5xx, and no secret is in the log', async () => {
    expect(upstream.requests).toEqual([]);
    // The one that was settled past us.
    expect(await openChain(instance).balanceOf(payer.address)).toBe(1_000_000n - 10_000n);
    const answer = await pay(good);
    expect(answer).toMatchObject({ status: 200, text: 'paid for' });

    const log = instance.output();
    expect(log).toContain('"msg":"call"');
    expect(log).not.toMatch(/"status":5\d\d|"level":(?:50|60)/);
    const { api_key, faucet_key } = instance.info;
    const secrets = [api_key, faucet_key, faucet_key.slice(2), String(good.payload['signature']), ...sent];
    for (const secret of secrets.filter((text) => text.length > 12)) expect(log).not.toContain(secret);
    expect(log).not.toContain(String(answer.headers['payment-response']));
  });
});

/** The twin that every signature has: as valid on the curve, and refused so that one payment has one form. */
function highHalf(signature: string): string {
  const { r, s, yParity } = parseSignature(signature as Hex);
  const twin = (order - BigInt(s)).toString(16).padStart(64, '0');
  return `${r}${twin}${yParity === 0 ? '1c' : '1b'}`;
}

function expectUnread(answer: Answer): void {
  expect(answer.status).toBe(400);
  expect(answer.headers['content-type']).toBe('application/problem+json');
  expect(answer.json()).toMatchObject({ code: 'invalid_payment', status: 400 });
}
