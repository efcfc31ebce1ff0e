import { x402Client } from '@x402/core/client';
import {
  decodePaymentRequiredHeader,
  decodePaymentResponseHeader,
  encodePaymentSignatureHeader,
} from '@x402/core/http';
import { ExactEvmScheme } from '@x402/evm/exact/client';
import * as fc from 'fast-check';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { describe, expect, it } from 'vitest';
import { limits } from '../../kernel/limits.ts';
import { findTermsFault, isSignedByPayer, type Terms } from '../exact/exact.ts';
import { anyJunk, anyText, header, outcomeOf, placesOf, readOrRefused, replaced } from './garbage.fixture.ts';
import { networks } from '../networks.ts';
import {
  decodePayment,
  decodePaymentRequired,
  encodePayment,
  encodePaymentRequired,
  encodeSettlement,
  paymentRequired,
} from './wire-v2.ts';

const payer = privateKeyToAccount(generatePrivateKey());
const payee = privateKeyToAccount(generatePrivateKey()).address;
const terms: Terms = { network: networks.sandbox, amount: 10_000n, payTo: payee, maxTimeoutSeconds: 120 };
const offer = paymentRequired({
  terms,
  resource: { url: 'http://localhost:8402/api/demo/weather', description: 'Weather' },
  termsSecret: 'secret-of-the-terms',
  error: undefined,
});

function describedAs(description: string) {
  return paymentRequired({
    terms,
    resource: { url: 'http://localhost:8402/api/demo/weather', description },
    termsSecret: 'secret-of-the-terms',
    error: undefined,
  });
}

async function stockPayment() {
  const client = new x402Client().register(terms.network.id, new ExactEvmScheme(payer));
  return client.createPaymentPayload(decodePaymentRequiredHeader(encodePaymentRequired(offer)));
}

describe('x402 version 2, with the stock client', () => {
  it('our offer is read as it was meant', () => {
    expect(decodePaymentRequiredHeader(encodePaymentRequired(offer))).toEqual(offer);
    expect(decodePaymentRequired(encodePaymentRequired(offer))).toEqual(offer);
  });

  it('its payment for our offer is read, meets the terms, is signed, and echoes secret and resource', async () => {
    const payment = decodePayment(encodePaymentSignatureHeader(await stockPayment()));
    const now = BigInt(Math.floor(Date.now() / 1000));
    expect(findTermsFault(payment, terms, now, 60)).toBeUndefined();
    expect(isSignedByPayer(terms.network, payment)).toBe(true);
    expect(payment).toMatchObject({
      network: terms.network.id,
      authorization: { from: payer.address, to: payee, value: 10_000n },
      termsSecret: 'secret-of-the-terms',
      resourceUrl: 'http://localhost:8402/api/demo/weather',
    });
  });

  it('a description of any length is cut to whole characters for its header, and a short one left as it is', () => {
    const anyLong = fc.string({
      unit: fc.constantFrom('a', '天', '👩', '"', '\u0001', ' '),
      maxLength: 3000,
      size: 'max',
    });
    fc.assert(
      fc.property(anyLong, (text): void => {
        const cut = describedAs(text).resource.description ?? '';
        expect(Buffer.byteLength(JSON.stringify(cut)) - 2).toBeLessThanOrEqual(
          limits.offeredDescriptionBytes,
        );
        const fits = Buffer.byteLength(JSON.stringify(text)) - 2 <= limits.offeredDescriptionBytes;
        expect(cut === text).toBe(fits);
        if (fits) return;
        expect(cut.isWellFormed()).toBe(true);
        expect(cut.endsWith('…')).toBe(true);
        expect(text.startsWith(cut.slice(0, -1))).toBe(true);
      }),
    );
    expect(describedAs('天'.repeat(5000)).resource.description).toBe(`${'天'.repeat(340)}…`);
  });

  it('our payment is the same payment once it is read', async () => {
    const payment = decodePayment(encodePaymentSignatureHeader(await stockPayment()));
    const [accepted] = offer.accepts;
    if (!accepted) throw new Error('an offer offers something');
    expect(decodePayment(encodePayment({ required: offer, accepted, payment }))).toEqual(payment);
  });

  it.each([
    [{ success: true, transaction: '0xab' } as const, { success: true, transaction: '0xab' }],
    [
      { success: false, errorReason: 'settlement_pending' } as const,
      { success: false, errorReason: 'settlement_pending', transaction: '' },
    ],
  ])('our settlement is read: %j', (settlement, read) => {
    const encoded = encodeSettlement(settlement, { network: terms.network.id, payer: payer.address });
    expect(decodePaymentResponseHeader(encoded)).toEqual({
      ...read,
      network: terms.network.id,
      payer: payer.address,
    });
  });

  it('one payment has one name, however its hexadecimal digits are written', async () => {
    const sent = JSON.stringify(await stockPayment());
    const upper = sent.replaceAll(/"0x[0-9a-fA-F]+"/g, (text) => `"0x${text.slice(3, -1).toUpperCase()}"`);
    expect(decodePayment(Buffer.from(upper).toString('base64'))).toEqual(
      decodePayment(header(JSON.parse(sent))),
    );
  });
});

const decoders = fc.constantFrom<(text: string) => unknown>(decodePayment, decodePaymentRequired);

describe('garbage in a payment header', () => {
  it('of any text is invalid_payment, and no other error', () => {
    fc.assert(
      fc.property(decoders, anyText, (decode, garbage) => {
        expect(outcomeOf(decode, garbage)).toBe('invalid_payment');
      }),
    );
  });

  it('of any JSON is invalid_payment, and no other error', () => {
    fc.assert(
      fc.property(decoders, fc.jsonValue(), (decode, garbage) => {
        expect(outcomeOf(decode, header(garbage))).toBe('invalid_payment');
      }),
    );
  });

  it('in any one field of a good payment is invalid_payment, or a payment', async () => {
    const good: unknown = JSON.parse(JSON.stringify(await stockPayment()));
    const places = placesOf(good);
    fc.assert(
      fc.property(fc.constantFrom(...places), anyJunk, (place, value) => {
        expect(outcomeOf(decodePayment, header(replaced(good, place, value)))).toMatch(readOrRefused);
      }),
      { numRuns: 1000 },
    );
    expect(places.length).toBeGreaterThan(20);
  });

  it.each([
    ['nothing', ''],
    ['no base64', '{"x402Version":2}'],
    ['base64url', 'eyJ_-'],
    ['base64 of no JSON', Buffer.from('hello').toString('base64')],
    ['deep nesting', Buffer.from('['.repeat(6000) + ']'.repeat(6000)).toString('base64')],
    ['more than 16 KiB', header('x'.repeat(limits.paymentHeaderBytes))],
    ['version 1', header({ x402Version: 1, scheme: 'exact', network: 'base-sepolia', payload: {} })],
    ['another scheme', header({ x402Version: 2, accepted: { scheme: 'upto' } })],
    ['null', header(null)],
  ])('that is %s says what is wrong', (_what, text) => {
    expect(() => decodePayment(text)).toThrow(
      expect.objectContaining({
        code: 'invalid_payment',
        message: expect.stringContaining('PAYMENT-SIGNATURE'),
      }),
    );
  });

  it.each([null, 1, 'x', [], { info: null }, { info: { secret: 5 } }, { info: { secret: 'x'.repeat(129) } }])(
    'in the secret of the terms, %j, is no secret',
    async (extension) => {
      const payment = { ...(await stockPayment()), extensions: { 'credence-retrieval': extension } };
      expect(decodePayment(header(payment)).termsSecret).toBeNull();
    },
  );
});
