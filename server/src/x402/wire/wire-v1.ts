import { type Static, Type } from 'typebox';
import type { Address } from 'viem';
import type { ExactPayment, PaymentFault, Terms } from '../exact/exact.ts';
import {
  decodeHeader,
  encodeHeader,
  ExactPayload,
  readExactPayload,
  type ReceivedPayment,
  type SettlementOutcome,
  Uint256Text,
  writeExactPayload,
} from './wire.ts';

/** Header names of x402 v1 over HTTP (transports-v1/http.md). The terms have none: they are the body of the 402. */
export const v1Headers = { payment: 'X-PAYMENT', response: 'X-PAYMENT-RESPONSE' } as const;

/** Version 1 has names of its own for chains; a client of it refuses a whole 402 for one name that it doesn't know. */
const networkNames = new Map<string, string>([
  ['eip155:84532', 'base-sepolia'],
  ['eip155:8453', 'base'],
]);
const networkIds = new Map([...networkNames].map(([id, name]) => [name, id]));

const Extra = Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]);

/** PaymentRequirements of specification v1, section 5.1.2, as far as a payer needs them. */
const PaymentRequirementsV1 = Type.Object({
  scheme: Type.String(),
  network: Type.String(),
  maxAmountRequired: Uint256Text,
  asset: Type.String(),
  payTo: Type.String(),
  resource: Type.String(),
  maxTimeoutSeconds: Type.Integer({ minimum: 1 }),
  extra: Type.Optional(Extra),
});

/** The body of a 402 of version 1, section 5.1.1: any seller's, so that members which we don't know may be there. */
export const PaymentRequiredV1 = Type.Object({
  x402Version: Type.Literal(1),
  accepts: Type.Array(PaymentRequirementsV1, { maxItems: 50 }),
});
export type PaymentRequiredV1 = Static<typeof PaymentRequiredV1>;

const PaymentPayloadV1 = Type.Object({
  x402Version: Type.Literal(1),
  scheme: Type.Literal('exact'),
  network: Type.String({ pattern: '^[-a-z0-9]{1,64}$' }),
  payload: ExactPayload,
});

/**
 * Reads an `X-PAYMENT` header: base64 of JSON. Throws `invalid_payment` saying which part is wrong. A payment of version 1
 * doesn't say which token it is in: that is the token of the terms that it answers. Its network comes out in CAIP-2; a name
 * that we don't know stays what it is, and meets no terms.
 */
export function decodePaymentV1(header: string, terms: { asset: Address }): ReceivedPayment {
  const kind = { name: v1Headers.payment, version: 1 } as const;
  const { network, payload } = decodeHeader(header, PaymentPayloadV1, kind);
  const offer = { network: networkIds.get(network) ?? network, asset: terms.asset };
  return { ...readExactPayload(payload, offer), termsSecret: null, resourceUrl: null };
}

/** A payment as its payer sends it. */
export function encodePaymentV1(payment: ExactPayment): string {
  return encodeHeader({
    x402Version: 1,
    scheme: 'exact',
    network: networkNames.get(payment.network) ?? payment.network,
    payload: writeExactPayload(payment),
  });
}

/**
 * The same terms as the `PAYMENT-REQUIRED` header, as version 1 has them in the body. Clients of it demand `description` and
 * `mimeType`, and refuse a null. "Meets or exceeds" `maxAmountRequired`, as its text has it, would take more than the price:
 * we take exactly the price. A network that version 1 has no name for isn't offered.
 */
export function paymentRequiredV1(args: {
  terms: Terms;
  resource: { url: string; description?: string; mimeType?: string };
  method: string;
  error: PaymentFault | (string & {}) | undefined;
}) {
  const { terms, resource } = args;
  const network = networkNames.get(terms.network.id);
  return {
    x402Version: 1 as const,
    error: args.error ?? `${v1Headers.payment} header is required`,
    accepts: network === undefined ? [] : [{ ...requirements(terms, resource, args.method), network }],
  };
}

/** SettlementResponse of specification v1, section 5.3, for the `X-PAYMENT-RESPONSE` header. */
export function encodeSettlementV1(
  settlement: SettlementOutcome,
  payment: { network: string; payer: string },
): string {
  const network = networkNames.get(payment.network) ?? payment.network;
  return encodeHeader({ transaction: '', ...settlement, network, payer: payment.payer });
}

/** What version 1 calls a network (CAIP-2), if it has a name for it. */
export function findNetworkNameV1(id: string): string | undefined {
  return networkNames.get(id);
}

/** The network (CAIP-2) that version 1 calls so, if it is one of ours. */
export function findNetworkIdV1(name: string): string | undefined {
  return networkIds.get(name);
}

function requirements(
  terms: Terms,
  resource: { url: string; description?: string; mimeType?: string },
  method: string,
) {
  const { asset } = terms.network;
  return {
    scheme: 'exact',
    maxAmountRequired: terms.amount.toString(),
    resource: resource.url,
    description: resource.description ?? '',
    mimeType: resource.mimeType ?? '',
    outputSchema: { input: { type: 'http', method } },
    payTo: terms.payTo,
    maxTimeoutSeconds: terms.maxTimeoutSeconds,
    asset: asset.address,
    extra: { name: asset.name, version: asset.version },
  };
}
