import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatUsdc, parseAtomicAmount, parseUsdcPrice } from './money.ts';

describe('a price in dollars', () => {
  it.each([
    ['$0.01', 10_000n],
    ['0.01', 10_000n],
    ['$0', 0n],
    ['$1', 1_000_000n],
    ['$0.000001', 1n],
    ['$1.5', 1_500_000n],
    ['$999999999999.999999', 999_999_999_999_999_999n],
  ])('%s is read exactly', (text, amount) => {
    expect(parseUsdcPrice(text, 'price')).toBe(amount);
  });

  it.each([
    '',
    '$',
    '.5',
    '1.',
    '$-1',
    '+1',
    '1e3',
    '0x1',
    '1,000',
    '01',
    '$$1',
    ' 1',
    '1\n',
    '0.0000001',
    '1000000000000',
    '١',
  ])('%j is refused, naming the field', (text) => {
    expect(() => parseUsdcPrice(text, 'price')).toThrow(
      expect.objectContaining({ code: 'invalid_request', message: expect.stringContaining('price') }),
    );
  });

  it.each([
    [0n, '$0.00'],
    [1n, '$0.000001'],
    [10_000n, '$0.01'],
    [100_000n, '$0.10'],
    [1_234_500n, '$1.2345'],
  ])('%d is shown as %s', (amount, text) => {
    expect(formatUsdc(amount)).toBe(text);
  });

  it('comes back from its text as it was', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 10n ** 18n - 1n), (amount) => {
        expect(parseUsdcPrice(formatUsdc(amount), 'price')).toBe(amount);
      }),
    );
  });
});

describe('an atomic amount', () => {
  const max = 2n ** 256n - 1n;
  it('comes back from its text as it was, up to uint256', () => {
    fc.assert(
      fc.property(fc.oneof(fc.bigInt(0n, max), fc.constant(max)), (amount) => {
        expect(parseAtomicAmount(amount.toString(), 'amount')).toBe(amount);
      }),
    );
  });

  it.each([
    '',
    '-1',
    '+1',
    '01',
    '1.0',
    '1e3',
    '0x10',
    ' 1',
    '1\n',
    '1_000',
    (max + 1n).toString(),
    '9'.repeat(1000),
  ])('%j is none', (text) => {
    expect(() => parseAtomicAmount(text, 'amount')).toThrow(
      expect.objectContaining({ code: 'invalid_request', message: expect.stringContaining('amount') }),
    );
  });
});
