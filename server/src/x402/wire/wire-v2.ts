import { type Static, Type } from 'typebox';
import { limits } from '../../kernel/limits.ts';
import { checksumAddress } from '../exact/checksum-address.ts';
import { creditsNetwork, readCreditPayment } from '../credits/credit-payment.ts';
import type { CreditTerms } from '../credits/credits-rail.ts';
import type { ExactPayment, PaymentFault, Terms } from '../exact/exact.ts';
import {
  AddressText,
  checkHeader,
  decodeHeader,
  encodeHeader,
  ExactPayload,
  parseHeader,
  readExactPayload,
  type ReceivedCredit,
  type ReceivedPayment,
  type SettlementOutcome,
  Uint256Text,
  writeExactPayload,
} from './wire.ts';

/** Header names of x402 v2 over HTTP (transports-v2/http.md). */
export const v2Headers = {
  required: 'PAYMENT-REQUIRED',
  signature: 'PAYMENT-SIGNATURE',
  response: 'PAYMENT-RESPONSE',
} as const;

/** Our extension of a 402: whoever echoes its secret with the payment may fetch the paid answer again. */
const retrievalExtension = 'credence-retrieval';

/** A CAIP-2 name, of any chain: an unknown one is a fault of the payment, not of its form. */
const NetworkName = Type.String({ pattern: '^[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}$' });

export const PaymentRequirements = Type.Object({
  scheme: Type.String(),
  network: Type.String(),
  amount: Uint256Text,
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

/** `resource` and `extensions` are echoes of the offer; one that isn't what we wrote is as good as none. */
const PaymentPayload = Type.Object({
  x402Version: Type.Literal(2),
  resource: Type.Optional(Type.Unknown()),
  accepted: Type.Object({ scheme: Type.Literal('exact'), network: NetworkName, asset: AddressText }),
  payload: ExactPayload,
  extensions: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});

/** A payment in credits says all that counts in its JWS; the terms that it echoes aren't signed, and aren't looked at. */
const CreditPayload = Type.Object({
  x402Version: Type.Literal(2),
  resource: Type.Optional(Type.Unknown()),
  accepted: Type.Object({ scheme: Type.Literal('exact'), network: Type.Literal(creditsNetwork) }),
  payload: Type.Object({ jws: Type.String() }),
  extensions: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
});

const paymentHeader = { name: v2Headers.signature, version: 2 } as const;

/** Reads a `PAYMENT-SIGNATURE` header: base64 of JSON. Throws `invalid_payment` saying which part is wrong. */
export function decodePayment(header: string): ReceivedPayment {
  return readExact(parseHeader(header, paymentHeader));
}

/** As `decodePayment`, also for a payment in credits. */
export function decodeAnyPayment(header: string): ReceivedCredit | ReceivedPayment {
  const value = parseHeader(header, paymentHeader);
  if ((value as { accepted?: { network?: unknown } | null } | null)?.accepted?.network !== creditsNetwork)
    return readExact(value);
  const { payload, ...echo } = checkHeader(value, CreditPayload, paymentHeader);
  return { credit: readCreditPayment(payload.jws), ...readEcho(echo) };
}

function readExact(value: unknown): ReceivedPayment {
  const { accepted, payload, ...echo } = checkHeader(value, PaymentPayload, paymentHeader);
  const offer = { network: accepted.network, asset: checksumAddress(accepted.asset) };
  return { ...readExactPayload(payload, offer), ...readEcho(echo) };
}

/** Reads a `PAYMENT-REQUIRED` header of any seller. Throws `invalid_payment`. */
export function decodePaymentRequired(header: string): PaymentRequired {
  return decodeHeader(header, PaymentRequired, { name: v2Headers.required, version: 2 });
}

export function encodePaymentRequired(required: PaymentRequired): string {
  return encodeHeader(required);
}

/**
 * What we ask for a call: its offers, that on the chain first, and the secret that fetches its answer again. It goes into a header, so
 * that a long description is cut.
 */
export function paymentRequired(args: {
  terms: Terms;
  /** Absent where the seller takes no credits. */
  creditTerms?: CreditTerms | undefined;
  resource: PaymentRequired['resource'];
  termsSecret: string;
  error: PaymentFault | (string & {}) | undefined;
}): PaymentRequired {
  return {
    x402Version: 2,
    error: args.error ?? `${v2Headers.signature} header is required`,
    resource: cutDescription(args.resource),
    accepts: [
      toRequirements(args.terms),
      ...(args.creditTerms ? [toCreditRequirements(args.creditTerms)] : []),
    ],
    extensions: { [retrievalExtension]: { info: { secret: args.termsSecret }, schema: retrievalSchema } },
  };
}

function cutDescription(resource: PaymentRequired['resource']): PaymentRequired['resource'] {
  const { description } = resource;
  if (description === undefined) return resource;
  return { ...resource, description: cutText(description, limits.offeredDescriptionBytes) };
}

/** As much of a text, in whole characters, as has this many bytes in JSON; with an ellipsis where some is gone. */
function cutText(text: string, bytesMax: number): string {
  // No character has less than a byte: what is short enough in any case is most of what comes.
  if (text.length * 6 <= bytesMax || jsonBytes(text) <= bytesMax) return text;
  let kept = '';
  let bytes = jsonBytes('…');
  for (const character of text) {
    bytes += jsonBytes(character);
    if (bytes > bytesMax) break;
    kept += character;
  }
  return `${kept.trimEnd()}…`;
}

function jsonBytes(text: string): number {
  return Buffer.byteLength(JSON.stringify(text)) - 2;
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

function toCreditRequirements(terms: CreditTerms): Static<typeof PaymentRequirements> {
  return {
    scheme: 'exact',
    network: creditsNetwork,
    amount: terms.amount.toString(),
    asset: terms.currency,
    payTo: terms.payTo,
    maxTimeoutSeconds: terms.maxTimeoutSeconds,
    extra: { audience: terms.audience },
  };
}

/** SettlementResponse of specification v2, section 5.3, for the `PAYMENT-RESPONSE` header. */
export function encodeSettlement(
  settlement: SettlementOutcome,
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
  return encodeHeader({
    x402Version: 2,
    resource: args.required.resource,
    accepted: args.accepted,
    payload: writeExactPayload(args.payment),
    ...(args.required.extensions ? { extensions: args.required.extensions } : {}),
  });
}

const retrievalSchema = {
  type: 'object',
  properties: {
    secret: { type: 'string', description: 'Echo it with the payment; it fetches the paid answer again' },
  },
};

function readEcho(echo: { resource?: unknown; extensions?: Record<string, unknown> }) {
  const url = (echo.resource as { url?: unknown } | null | undefined)?.url;
  return { termsSecret: findTermsSecret(echo.extensions), resourceUrl: typeof url === 'string' ? url : null };
}

function findTermsSecret(extensions: Record<string, unknown> | undefined): string | null {
  const extension = extensions?.[retrievalExtension] as { info?: { secret?: unknown } } | null | undefined;
  const secret = extension?.info?.secret;
  return typeof secret === 'string' && secret.length <= 128 ? secret : null;
}
