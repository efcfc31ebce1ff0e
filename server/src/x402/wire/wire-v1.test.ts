import { x402Client, x402HTTPClient } from '@x402/core/client';
import { decodePaymentResponseHeader } from '@x402/core/http';
import { PaymentPayloadV1Schema, PaymentRequiredV1Schema } from '@x402/core/schemas';
import { ExactEvmSchemeV1 } from '@x402/evm/exact/v1/client';
import * as fc from 'fast-check';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { describe, expect, it } from 'vitest';
import { newPayerV1, parseRequiredV1 } from '../../../test/helpers/payer-v1.ts';
import { limits } from '../../kernel/limits.ts';
import { findTermsFault, isSignedByPayer, type Terms } from '../exact/exact.ts';
import { anyJunk, anyText, header, outcomeOf, placesOf, readOrRefused, replaced } from './garbage.fixture.ts';
import { networks } from '../networks.ts';
import {
  decodePaymentV1,
  encodePaymentV1,
  encodeSettlementV1,
  PaymentRequiredV1,
  paymentRequiredV1,
} from './wire-v1.ts';
import { decodePayment, encodePayment, paymentRequired } from './wire-v2.ts';
import { Value } from 'typebox/value';

const key = generatePrivateKey();
const payer = privateKeyToAccount(key);
const payee = privateKeyToAccount(generatePrivateKey()).address;
const terms: Terms = { network: networks.sandbox, amount: 10_000n, payTo: payee, maxTimeoutSeconds: 120 };
const resource = { url: 'http://localhost:8402/api/demo/weather', description: 'Weather' };
const body = paymentRequiredV1({ terms, resource, method: 'GET', error: undefined });
const asset = terms.network.asset.address;
const read = (text: string) => decodePaymentV1(text, { asset });
const now = BigInt(Math.floor(Date.now() / 1000));

/** What `@x402/core` sends where it has an offer of version 1. */
async function stockHeader(): Promise<string> {
  const client = new x402HTTPClient(new x402Client().registerV1('base-sepolia', new ExactEvmSchemeV1(payer)));
  const required = client.getPaymentRequiredResponse(() => undefined, JSON.parse(JSON.stringify(body)));
  const headers = client.encodePaymentSignatureHeader(await client.createPaymentPayload(required));
  return headers['X-PAYMENT'] ?? '';
}

describe('x402 version 1', () => {
  it.each([
    ['sandbox', 'base-sepolia'],
    ['production', 'base'],
  ] as const)('our terms of the %s are read by strict clients, network %s', (kind, network) => {
    const required = paymentRequiredV1({
      terms: { ...terms, network: networks[kind] },
      resource: { url: resource.url },
      method: 'POST',
      error: undefined,
    });
    const sent: unknown = JSON.parse(JSON.stringify(required));
    expect(PaymentRequiredV1Schema.parse(sent)).toEqual(sent);
    expect(Value.Check(PaymentRequiredV1, sent)).toBe(true);
    expect(parseRequiredV1(sent).accepts).toEqual([
      {
        scheme: 'exact',
        network,
        maxAmountRequired: '10000',
        resource: resource.url,
        description: '',
        mimeType: '',
        outputSchema: { input: { type: 'http', method: 'POST' } },
        payTo: payee,
        maxTimeoutSeconds: 120,
        asset: networks[kind].asset.address,
        extra: { name: networks[kind].asset.name, version: '2' },
      },
    ]);
  });

  it('does not offer a network that it has no name for', () => {
    const network = { ...terms.network, id: 'eip155:1' as const, chainId: 1 };
    const elsewhere = paymentRequiredV1({
      terms: { ...terms, network },
      resource,
      method: 'GET',
      error: 'x',
    });
    expect(elsewhere).toEqual({ x402Version: 1, error: 'x', accepts: [] });
  });

  it.each<[string, () => Promise<string>]>([
    ['by @x402/core', stockHeader],
    ['written out', async () => header(await newPayerV1(key).pay(body))],
  ])('a payment %s is read, meets the terms and is signed', async (_, pay) => {
    const payment = read(await pay());
    expect(findTermsFault(payment, terms, now, 60)).toBeUndefined();
    expect(isSignedByPayer(terms.network, payment)).toBe(true);
    expect(payment).toMatchObject({
      network: terms.network.id,
      asset,
      authorization: { from: payer.address, to: payee, value: 10_000n },
      termsSecret: null,
    });
  });

  it('"meets or exceeds" means exactly the price', async () => {
    const payment = read(header(await newPayerV1(key).pay(body, { value: '10001' })));
    expect(isSignedByPayer(terms.network, payment)).toBe(true);
    expect(findTermsFault(payment, terms, now, 60)).toBe(
      'invalid_exact_evm_payload_authorization_value_mismatch',
    );
  });

  it('one authorisation is one payment, whichever version it is sent in', async () => {
    const payment = read(await stockHeader());
    expect(read(encodePaymentV1(payment))).toEqual(payment);
    const required = paymentRequired({ terms, resource, termsSecret: 'x', error: undefined });
    const [accepted] = required.accepts;
    if (!accepted) throw new Error('an offer offers something');
    const asV2 = decodePayment(encodePayment({ required, accepted, payment }));
    expect({ ...asV2, termsSecret: null, resourceUrl: null }).toEqual(payment);
  });

  it('our payment is one to others', async () => {
    const sent = encodePaymentV1(read(await stockHeader()));
    expect(PaymentPayloadV1Schema.parse(JSON.parse(Buffer.from(sent, 'base64').toString()))).toMatchObject({
      x402Version: 1,
      scheme: 'exact',
      network: 'base-sepolia',
    });
  });

  it.each(['polygon', 'constructor', 'base'])('a payment on %s is read, and meets no terms', async (name) => {
    const payment = read(header({ ...(await newPayerV1(key).pay(body)), network: name }));
    expect(findTermsFault(payment, terms, now, 60)).toBe('invalid_network');
  });

  it.each([
    [{ success: true, transaction: '0xab' } as const, { success: true, transaction: '0xab' }],
    [
      { success: false, errorReason: 'settlement_pending' } as const,
      { success: false, errorReason: 'settlement_pending', transaction: '' },
    ],
  ])('our settlement is read, with its name of the network: %j', (settlement, said) => {
    const encoded = encodeSettlementV1(settlement, { network: terms.network.id, payer: payer.address });
    expect(decodePaymentResponseHeader(encoded)).toEqual({
      ...said,
      network: 'base-sepolia',
      payer: payer.address,
    });
  });
});

describe('garbage in X-PAYMENT', () => {
  it('of any text or JSON is invalid_payment, and no other error', () => {
    fc.assert(
      fc.property(fc.oneof(anyText, fc.jsonValue().map(header)), (garbage) => {
        expect(outcomeOf(read, garbage)).toBe('invalid_payment');
      }),
    );
  });

  it('in any one field of a good payment is invalid_payment, or a payment', async () => {
    const good: unknown = JSON.parse(Buffer.from(await stockHeader(), 'base64').toString());
    const places = placesOf(good);
    fc.assert(
      fc.property(fc.constantFrom(...places), anyJunk, (place, value) => {
        expect(outcomeOf(read, header(replaced(good, place, value)))).toMatch(readOrRefused);
      }),
      { numRuns: 1000 },
    );
    expect(places.length).toBeGreaterThan(12);
  });

  it.each([
    ['nothing', ''],
    ['base64url', 'eyJ_-'],
    ['deep nesting', Buffer.from('['.repeat(6000) + ']'.repeat(6000)).toString('base64')],
    ['more than 16 KiB', header('x'.repeat(limits.paymentHeaderBytes))],
    ['version 2', header({ x402Version: 2, accepted: { scheme: 'exact' } })],
    ['another scheme', header({ x402Version: 1, scheme: 'upto', network: 'base' })],
    ['a name of version 2', header({ x402Version: 1, scheme: 'exact', network: 'eip155:84532' })],
  ])('that is %s says what is wrong', (_what, text) => {
    expect(() => read(text)).toThrow(
      expect.objectContaining({ code: 'invalid_payment', message: expect.stringContaining('X-PAYMENT') }),
    );
  });
});
