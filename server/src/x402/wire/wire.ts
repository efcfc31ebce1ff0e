import { type Static, type TSchema, Type } from 'typebox';
import { Compile, type Validator } from 'typebox/compile';
import type { Address, Hex } from 'viem';
import { AppError } from '../../kernel/errors.ts';
import { limits } from '../../kernel/limits.ts';
import { checksumAddress } from '../exact/checksum-address.ts';
import type { CreditPayment } from '../credits/credit-payment.ts';
import type { ExactPayment } from '../exact/exact.ts';

/** What both versions of x402 write alike: atomic amounts, times, the `exact` payload, and headers of base64 JSON. */
export type X402Version = 1 | 2;

export const AddressText = Type.String({ pattern: '^0x[0-9a-fA-F]{40}$' });
export const Uint256Text = Type.String({ pattern: '^(0|[1-9][0-9]{0,77})$' });
const SecondsText = Type.String({ pattern: '^(0|[1-9][0-9]{0,15})$' });

/** The payload of scheme `exact` with `eip3009`; the same in both versions. */
export const ExactPayload = Type.Object({
  signature: Type.String({ pattern: '^0x(?:[0-9a-fA-F]{2})*$' }),
  authorization: Type.Object({
    from: AddressText,
    to: AddressText,
    value: Uint256Text,
    validAfter: SecondsText,
    validBefore: SecondsText,
    nonce: Type.String({ pattern: '^0x[0-9a-fA-F]{64}$' }),
  }),
});

/** A payment as it reached us, whichever version carried it: from here on nothing asks for the version. */
export interface ReceivedPayment extends ExactPayment {
  /** The secret of the 402 that this payment answers, where the client echoed it. */
  termsSecret: string | null;
  /** What the payer says that it pays for, where it says so: unsigned, so that it binds the honest only. */
  resourceUrl: string | null;
}

/** A payment in credits, as it reached us; version 1 has no name for their network. */
export interface ReceivedCredit {
  credit: CreditPayment;
  termsSecret: string | null;
  resourceUrl: string | null;
}

/** What a settlement header says (SettlementResponse, section 5.3 of both specifications). */
export type SettlementOutcome =
  | { success: true; transaction: string }
  | { success: false; errorReason: string; transaction?: string };

/** Addresses come back checksummed, hexadecimal digits in lower case, so that one payment has one name. */
export function readExactPayload(
  payload: Static<typeof ExactPayload>,
  offer: { network: string; asset: Address },
): ExactPayment {
  const { authorization, signature } = payload;
  return {
    network: offer.network,
    asset: offer.asset,
    authorization: {
      from: checksumAddress(authorization.from),
      to: checksumAddress(authorization.to),
      value: BigInt(authorization.value),
      validAfter: BigInt(authorization.validAfter),
      validBefore: BigInt(authorization.validBefore),
      nonce: authorization.nonce.toLowerCase() as Hex,
    },
    signature: signature.toLowerCase() as Hex,
  };
}

export function writeExactPayload({ authorization, signature }: ExactPayment): Static<typeof ExactPayload> {
  return {
    signature,
    authorization: {
      from: authorization.from,
      to: authorization.to,
      value: authorization.value.toString(),
      validAfter: authorization.validAfter.toString(),
      validBefore: authorization.validBefore.toString(),
      nonce: authorization.nonce,
    },
  };
}

export function encodeHeader(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64');
}

/** Which header is read, for what is said of it. */
export interface HeaderKind {
  name: string;
  version: X402Version;
}

/** Reads a header of base64 JSON. Throws `invalid_payment` saying which part is wrong, and nothing else. */
export function decodeHeader<Schema extends TSchema>(
  header: string,
  schema: Schema,
  kind: HeaderKind,
): Static<Schema> {
  return checkHeader(parseHeader(header, kind), schema, kind);
}

/** The JSON of a header of base64. Throws `invalid_payment`. */
export function parseHeader(header: string, { name }: HeaderKind): unknown {
  if (header.length > limits.paymentHeaderBytes)
    throw new AppError('invalid_payment', `${name} is longer than 16 KiB`);
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(header)) throw new AppError('invalid_payment', `${name} is not base64`);
  try {
    return JSON.parse(Buffer.from(header, 'base64').toString());
  } catch {
    throw new AppError('invalid_payment', `${name} is not base64 of JSON`);
  }
}

/** What a header holds, where it has this form. Throws `invalid_payment` saying where it hasn't. */
export function checkHeader<Schema extends TSchema>(
  value: unknown,
  schema: Schema,
  kind: HeaderKind,
): Static<Schema> {
  const validator = validatorOf(schema);
  if (validator.Check(value)) return value as Static<Schema>;
  const [fault] = validator.Errors(value);
  const place = fault?.instancePath.slice(1).replaceAll('/', '.') || 'it';
  throw new AppError(
    'invalid_payment',
    `${kind.name} is no payment of x402 version ${kind.version}: ${place} ${fault?.message ?? 'is not valid'}`,
  );
}

const validators = new Map<TSchema, Validator>();

/** Compiled once: a check is then some tenths of a microsecond, and every paid call makes one. */
function validatorOf(schema: TSchema): Validator {
  const known = validators.get(schema);
  if (known) return known;
  const validator = Compile(schema);
  validators.set(schema, validator);
  return validator;
}
