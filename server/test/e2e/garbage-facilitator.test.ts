import type { PaymentRequirements } from '@x402/core/types';
import type { Hex } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestDatabase, type TestDatabase } from '../helpers/database.ts';
import {
  countRows,
  type FacilitatorBody,
  foreignTerms,
  orderOf,
  settle,
  verify,
} from '../helpers/facilitator.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { type Authorization, newPayer, openChain, type Payer } from '../helpers/payer.ts';
import { send } from '../helpers/request.ts';
import { withPlace } from '../helpers/with-place.ts';

const someone = '0x000000000000000000000000000000000000dEaD';
const now = Math.floor(Date.now() / 1000);

describe('what a facilitator is asked with', { timeout: 20_000 }, () => {
  let database: TestDatabase;
  let instance: Instance;
  let payer: Payer;
  let terms: PaymentRequirements;
  let good: FacilitatorBody;
  let before: unknown;

  const rows = () => countRows(database.db);

  beforeAll(async () => {
    database = await openTestDatabase();
    instance = await startInstance({ env: { DATABASE_URL: database.url } });
    payer = await newPayer(instance);
    terms = foreignTerms(privateKeyToAccount(generatePrivateKey()).address);
    good = await orderOf(payer, terms);
    before = await rows();
  }, 60_000);
  afterAll(async () => {
    await instance?.stop();
  }, 60_000);

  /** The good request with one place changed, the signature left as it was. */
  const changed = (path: string, value: unknown) => withPlace(good, path, value);

  it.each([
    ['x402Version', undefined],
    ['x402Version', '2'],
    ['x402Version', 1],
    ['paymentPayload', undefined],
    ['paymentPayload', null],
    ['paymentPayload', 'e30='],
    ['paymentPayload', {}],
    ['paymentPayload.x402Version', 1],
    ['paymentPayload.accepted', undefined],
    ['paymentPayload.accepted.asset', 'USDC'],
    ['paymentPayload.payload', {}],
    ['paymentPayload.payload.signature', '0xabc'],
    ['paymentPayload.payload.authorization', { permitted: {} }],
    ['paymentPayload.payload.authorization.value', 10_000],
    ['paymentPayload.payload.authorization.value', '9'.repeat(400)],
    ['paymentPayload.payload.authorization.validBefore', '-1'],
    ['paymentPayload.payload.authorization.nonce', '0x01'],
    ['paymentRequirements', undefined],
    ['paymentRequirements', []],
    ['paymentRequirements.scheme', 5],
    ['paymentRequirements.network', { toString: 1 }],
    ['paymentRequirements.network', 'x'.repeat(1_000)],
    ['paymentRequirements.amount', 10_000],
    ['paymentRequirements.amount', '-1'],
    ['paymentRequirements.amount', '1e4'],
    ['paymentRequirements.payTo', 'merchant'],
    ['paymentRequirements.asset', 'USDC'],
    ['paymentRequirements.maxTimeoutSeconds', 0],
    ['paymentRequirements.extra', 'none'],
  ])('%s = %j is 400, and the stock client reads why', async (path, value) => {
    for (const answer of [
      await verify(instance, changed(path, value)),
      await settle(instance, changed(path, value)),
    ]) {
      expect(answer.status, answer.text).toBe(400);
      expect(answer.json()).toMatchObject({ code: 'invalid_request' });
      // What is missing at the top is seen before the version is.
      if (path.includes('.'))
        expect(answer.json()).toMatchObject({
          isValid: false,
          success: false,
          errorReason: 'invalid_payload',
        });
    }
  });

  it.each([
    'null',
    '[]',
    '"text"',
    '{',
    '['.repeat(50_000),
    `{"x402Version":2,"a":${'['.repeat(400_000)}1${']'.repeat(400_000)}}`,
  ])('that is %.20s is 400', async (body) => {
    for (const path of ['/facilitator/verify', '/facilitator/settle']) {
      const answer = await send(`${instance.info.api_url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'x-api-key': instance.info.api_key },
        body,
      });
      expect(answer.status, answer.text).toBe(400);
    }
  });

  it.each<[string, unknown, string]>([
    ['x402Version', 3, 'invalid_x402_version'],
    ['paymentPayload.accepted.scheme', 'upto', 'unsupported_scheme'],
    ['paymentRequirements.scheme', 'upto', 'unsupported_scheme'],
    ['paymentPayload.accepted.network', 'eip155:1', 'invalid_network'],
    ['paymentRequirements.network', 'eip155:8453', 'invalid_network'],
    ['paymentRequirements.network', 'base-sepolia', 'invalid_network'],
    ['paymentRequirements.asset', someone, 'invalid_payment_requirements'],
    ['paymentPayload.accepted.asset', someone, 'invalid_payment_requirements'],
    ['paymentRequirements.amount', '0', 'invalid_payment_requirements'],
    ['paymentRequirements.extra', { name: 'USD Coin', version: '2' }, 'invalid_payment_requirements'],
    ['paymentRequirements.extra', { assetTransferMethod: 'permit2' }, 'invalid_payment_requirements'],
    ['paymentRequirements.payTo', someone, 'invalid_exact_evm_payload_recipient_mismatch'],
    ['paymentRequirements.amount', '9999', 'invalid_exact_evm_payload_authorization_value_mismatch'],
    ['paymentPayload.payload.authorization.from', someone, 'invalid_exact_evm_payload_signature'],
    [
      'paymentPayload.payload.authorization.nonce',
      `0x${'ab'.repeat(32)}`,
      'invalid_exact_evm_payload_signature',
    ],
    ['paymentPayload.payload.signature', '0x', 'invalid_exact_evm_payload_signature'],
    ['paymentPayload.payload.signature', `0x${'ff'.repeat(65)}`, 'invalid_exact_evm_payload_signature'],
  ])('%s = %j is an outcome: %s', async (path, value, reason) => {
    await expectRefused(changed(path, value), reason);
  });

  it.each<[string, Partial<Authorization>, string]>([
    ['another recipient', { to: someone }, 'recipient_mismatch'],
    ['another value', { value: '10001' }, 'authorization_value_mismatch'],
    ['five seconds', { validBefore: String(now + 5) }, 'authorization_valid_before'],
    ['two hours', { validBefore: String(now + 7_200) }, 'authorization_valid_before'],
    ['a time to come', { validAfter: String(now + 3_600) }, 'authorization_valid_after'],
  ])('honestly signed for %s, is an outcome', async (_, change, reason) => {
    const paymentPayload = await payer.payWith(
      { x402Version: 2, resource: { url: 'https://api.example.com' }, accepts: [terms] },
      change,
    );
    await expectRefused({ ...good, paymentPayload }, `invalid_exact_evm_payload_${reason}`);
  });

  async function expectRefused(body: object, reason: string): Promise<void> {
    const verified = await verify(instance, body);
    expect([verified.status, verified.json()]).toEqual([
      200,
      expect.objectContaining({ isValid: false, invalidReason: reason }),
    ]);
    const settled = await settle(instance, body);
    expect([settled.status, settled.json()]).toEqual([
      200,
      expect.objectContaining({ success: false, errorReason: reason, transaction: '' }),
    ]);
  }

  it('that all of it changed nothing, nobody was charged, nothing was a 5xx, and no secret is in the log', async () => {
    expect(await rows()).toEqual(before);
    expect(await openChain(instance).balanceOf(payer.address)).toBe(1_000_000n);
    expect((await settle(instance, { ...good, unknown: 'ignored' })).json()).toMatchObject({ success: true });
    const log = instance.output();
    expect(log).toContain('"path":"/facilitator/settle"');
    expect(log).not.toMatch(/"status":5\d\d|"level":(?:50|60)/);
    const { signature } = (good.paymentPayload as { payload: { signature: Hex } }).payload;
    for (const secret of [instance.info.api_key, signature, signature.slice(2)])
      expect(log).not.toContain(secret);
  });
});
