import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import type { Hex } from 'viem';
import { AppError } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';
import { checksumAddress } from './checksum-address.ts';
import type { ExactPayment, PaymentFault, Terms } from './exact.ts';

/** Header names of x402 v2 over HTTP (transports-v2/http.md). */
export const v2Headers = {
  required: 'PAYMENT-REQUIRED',
  signature: 'PAYMENT-SIGNATURE',
  response: 'PAYMENT-RESPONSE',
} as const;

/** Our extension of a 402: whoever echoes its secret with the payment may fetch the paid answer again. */
const retrievalExtension = 'credence-retrieval';

const Address = Type.String({ pattern: '^0x[0-9a-fA-F]{40}$' });
const Uint256 = Type.String({ pattern: '^(0|[1-9][0-9]{0,77})$' });
/** A CAIP-2 name, of any chain: an unknown one is a fault of the payment, not of its form. */
const NetworkName = Type.String({ pattern: '^[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}$' });
const Seconds = Type.String({ pattern: '^(0|[1-9][0-9]{0,15})$' });

export const PaymentRequirements = Type.Object({
  scheme: Type.String(),
  network: Type.String(),
  amount: Uint256,
  asset: Type.String(),
  payTo: Type.String(),
  maxTimeoutSeconds: Type.Integer({ minimum: 1 }),
  extra: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});

/** PaymentRequired of specification v2, section 5.1: what a 402's header decodes to. */
export const PaymentRequired = Type.Object({
  x402Version: Type.Literal(2),
  error: Type.Optional(Type.String()),
  resource: Type.Object({
    url: Type.String(),
    description: Type.Optional(Type.String()),
    mimeType: Type.Optional(Type.String()),
  }),
  accepts: Type.Array(PaymentRequirements, { maxItems: 50 }),
  extensions: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});
export type PaymentRequired = Static<typeof PaymentRequired>;

const ExactPayload = Type.Object({
  signature: Type.String({ pattern: '^0x(?:[0-9a-fA-F]{2})*$' }),
  authorization: Type.Object({
    from: Address,
    to: Address,
    value: Uint256,
    validAfter: Seconds,
    validBefore: Seconds,
    nonce: Type.String({ pattern: '^0x[0-9a-fA-F]{64}$' }),
  }),
});

const PaymentPayload = Type.Object({
  x402Version: Type.Literal(2),
  accepted: Type.Object({ scheme: Type.Literal('exact'), network: NetworkName, asset: Address }),
  payload: ExactPayload,
  extensions: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});

export interface ReceivedPayment extends ExactPayment {
  /** The secret of the 402 that this payment answers, where the client echoed it. */
  termsSecret: string | null;
}

/**
 * Reads a `PAYMENT-SIGNATURE` header: base64 of JSON. Throws `invalid_payment` saying which part is wrong.
 * Addresses come back checksummed and the nonce in lower case, so that one payment has one name.
 */
export function decodePayment(header: string): ReceivedPayment {
  const payload = decodeHeader(header, PaymentPayload, v2Headers.signature);
  const { authorization, signature } = payload.payload;
  return {
    network: payload.accepted.network,
    asset: checksumAddress(payload.accepted.asset),
    authorization: {
      from: checksumAddress(authorization.from),
      to: checksumAddress(authorization.to),
      value: BigInt(authorization.value),
      validAfter: BigInt(authorization.validAfter),
      validBefore: BigInt(authorization.validBefore),
      nonce: authorization.nonce.toLowerCase() as Hex,
    },
    signature: signature.toLowerCase() as Hex,
    termsSecret: findTermsSecret(payload.extensions),
  };
}

/** Reads a `PAYMENT-REQUIRED` header of any seller. Throws `invalid_payment`. */
export function decodePaymentRequired(header: string): PaymentRequired {
  return decodeHeader(header, PaymentRequired, v2Headers.required);
}

export function encodePaymentRequired(required: PaymentRequired): string {
  return encodeHeader(required);
}

/** What we ask for a call: the terms of its one offer, and the secret that fetches its answer again. */
export function paymentRequired(args: {
  terms: Terms;
  resource: PaymentRequired['resource'];
  termsSecret: string;
  error: PaymentFault | (string & {}) | undefined;
}): PaymentRequired {
  return {
    x402Version: 2,
    error: args.error ?? `${v2Headers.signature} header is required`,
    resource: args.resource,
    accepts: [toRequirements(args.terms)],
    extensions: { [retrievalExtension]: { info: { secret: args.termsSecret }, schema: retrievalSchema } },
  };
}

function toRequirements(terms: Terms): Static<typeof PaymentRequirements> {
  const { asset } = terms.network;
  return {
    scheme: 'exact',
    network: terms.network.id,
    amount: terms.amount.toString(),
    asset: asset.address,
    payTo: terms.payTo,
    maxTimeoutSeconds: terms.maxTimeoutSeconds,
    extra: { name: asset.name, version: asset.version },
  };
}

/** SettlementResponse of specification v2, section 5.3, for the `PAYMENT-RESPONSE` header. */
export function encodeSettlement(
  settlement:
    | { success: true; transaction: string }
    | { success: false; errorReason: string; transaction?: string },
  payment: { network: string; payer: string },
): string {
  return encodeHeader({ transaction: '', ...settlement, network: payment.network, payer: payment.payer });
}

/** A payment as its payer sends it: the offer echoed, with the signed authorisation. */
export function encodePayment(args: {
  required: PaymentRequired;
  accepted: Static<typeof PaymentRequirements>;
  payment: ExactPayment;
}): string {
  const { authorization, signature } = args.payment;
  return encodeHeader({
    x402Version: 2,
    resource: args.required.resource,
    accepted: args.accepted,
    payload: {
      signature,
      authorization: {
        from: authorization.from,
        to: authorization.to,
        value: authorization.value.toString(),
        validAfter: authorization.validAfter.toString(),
        validBefore: authorization.validBefore.toString(),
        nonce: authorization.nonce,
      },
    },
    ...(args.required.extensions ? { extensions: args.required.extensions } : {}),
  });
}

const retrievalSchema = {
  type: 'object',
  properties: {
    secret: { type: 'string', description: 'Echo it with the payment; it fetches the paid answer again' },
  },
};

function findTermsSecret(extensions: Record<string, unknown> | undefined): string | null {
  const extension = extensions?.[retrievalExtension] as { info?: { secret?: unknown } } | null | undefined;
  const secret = extension?.info?.secret;
  return typeof secret === 'string' && secret.length <= 128 ? secret : null;
}

function encodeHeader(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64');
}

function decodeHeader<Schema extends TSchema>(header: string, schema: Schema, name: string): Static<Schema> {
  if (header.length > limits.paymentHeaderBytes)
    throw new AppError('invalid_payment', `${name} is longer than 16 KiB`);
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(header)) throw new AppError('invalid_payment', `${name} is not base64`);
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(header, 'base64').toString());
  } catch {
    throw new AppError('invalid_payment', `${name} is not base64 of JSON`);
  }
  if (Value.Check(schema, value)) return value;
  const [fault] = Value.Errors(schema, value);
  const place = fault?.instancePath.slice(1).replaceAll('/', '.') || 'it';
  throw new AppError(
    'invalid_payment',
    `${name} is no payment of x402 version 2: ${place} ${fault?.message ?? 'is not valid'}`,
  );
}
