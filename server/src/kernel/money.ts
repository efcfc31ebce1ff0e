import { AppError } from './errors.ts';

/** A token amount in its smallest unit (USDC: millionths). On the wire a decimal string. */
export type AtomicAmount = bigint;

/** Both networks' USDC has six decimals (Circle, FiatTokenV2). */
const usdcDecimals = 6;

const uint256Max = 2n ** 256n - 1n;

/** Reads a token amount from its wire form, a decimal string of atomic units up to uint256; otherwise nothing. */
function findAtomicAmount(text: string): AtomicAmount | undefined {
  if (!/^(0|[1-9][0-9]{0,77})$/.test(text)) return undefined;
  const amount = BigInt(text);
  return amount <= uint256Max ? amount : undefined;
}

/** As `findAtomicAmount`, for a field that must be one. Throws `invalid_request` naming the field. */
export function parseAtomicAmount(text: string, field: string): AtomicAmount {
  const amount = findAtomicAmount(text);
  if (amount === undefined) {
    throw new AppError(
      'invalid_request',
      `${field} must be a whole number of atomic units as a string, such as "10000"`,
    );
  }
  return amount;
}

/** `"$0.01"` or `"0.01"` to atomic USDC: the one place where a decimal price is read. */
export function parseUsdcPrice(text: string, field: string): AtomicAmount {
  const match = /^\$?(0|[1-9][0-9]{0,11})(?:\.([0-9]{1,6}))?$/.exec(text);
  if (!match) {
    throw new AppError(
      'invalid_request',
      `${field} must be a price in dollars with at most six decimals, such as "$0.01"`,
    );
  }
  const [, whole = '0', fraction = ''] = match;
  return BigInt(whole) * 10n ** BigInt(usdcDecimals) + BigInt(fraction.padEnd(usdcDecimals, '0'));
}

/** Atomic USDC as people read it: `10000n` is `"$0.01"`. */
export function formatUsdc(amount: AtomicAmount): string {
  const unit = 10n ** BigInt(usdcDecimals);
  const fraction = (amount % unit)
    .toString()
    .padStart(usdcDecimals, '0')
    .replace(/0{0,4}$/, '');
  return `$${amount / unit}.${fraction}`;
}
