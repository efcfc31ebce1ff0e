import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import type { Address } from 'viem';
import { sha256 } from '../../kernel/crypto.ts';
import { AppError } from '../../kernel/errors.ts';
import { checksumAddress } from '../exact/checksum-address.ts';
import type { ExactPayment } from '../exact/exact.ts';
import { AddressText, ExactPayload, readExactPayload, Uint256Text, type X402Version } from '../wire/wire.ts';
import { findNetworkIdV1 } from '../wire/wire-v1.ts';

/** What both calls of a facilitator are asked with (specification v2, section 7): read by version, in `readFacilitatorRequest`. */
export const FacilitatorBody = Type.Object({
  x402Version: Type.Integer({ description: '1 or 2' }),
  paymentPayload: Type.Object({}, { description: 'PaymentPayload, as the payer sent it' }),
  paymentRequirements: Type.Object({}, { description: 'The one entry of `accepts` that it answers' }),
});

const Extra = Type.Union([Type.Record(Type.String(), Type.Unknown()), Type.Null()]);
const requirements = {
  scheme: Type.String({ maxLength: 64 }),
  network: Type.String({ maxLength: 64 }),
  asset: AddressText,
  payTo: AddressText,
  maxTimeoutSeconds: Type.Integer({ minimum: 1 }),
  extra: Type.Optional(Extra),
};

const RequestV1 = Type.Object({
  paymentPayload: Type.Object({
    x402Version: Type.Literal(1),
    scheme: Type.String(),
    network: Type.String(),
    payload: ExactPayload,
  }),
  paymentRequirements: Type.Object({
    ...requirements,
    maxAmountRequired: Uint256Text,
    resource: Type.String({ maxLength: 8_192 }),
  }),
});

const RequestV2 = Type.Object({
  paymentPayload: Type.Object({
    x402Version: Type.Literal(2),
    resource: Type.Optional(Type.Unknown()),
    accepted: Type.Object({ scheme: Type.String(), network: Type.String(), asset: AddressText }),
    payload: ExactPayload,
  }),
  // The specification has the resource beside the terms; some servers write it into them.
  paymentRequirements: Type.Object({
    ...requirements,
    amount: Uint256Text,
    resource: Type.Optional(Type.Unknown()),
  }),
});

/** A payment and the terms that somebody else has set for it, whichever version they came in. */
export interface FacilitatorRequest {
  sent: ExactPayment;
  /** Of the payload and of the requirements. */
  schemes: readonly string[];
  /** CAIP-2; a name that we don't know stays what it is, and is no network of ours. */
  network: string;
  /** As the request spells it, and the answer will. */
  networkName: string;
  asset: Address;
  amount: bigint;
  payTo: Address;
  maxTimeoutSeconds: number;
  extra: Readonly<Record<string, unknown>>;
  /** Of the requirements, and of the resource where one is named: the same payment for others is another request. */
  fingerprint: Buffer;
}

/**
 * Reads the body of verify or settle. Throws `invalid_request` naming the place that is wrong, with the members that a client of
 * either version looks for; an unknown version gives nothing.
 */
export function readFacilitatorRequest(body: Static<typeof FacilitatorBody>): FacilitatorRequest | undefined {
  if (body.x402Version === 1) return readV1(parse(RequestV1, body, 1));
  if (body.x402Version === 2) return readV2(parse(RequestV2, body, 2));
  return undefined;
}

function readV1({ paymentPayload, paymentRequirements }: Static<typeof RequestV1>): FacilitatorRequest {
  const { scheme, network, payload } = paymentPayload;
  const asset = checksumAddress(paymentRequirements.asset);
  // A payment of version 1 doesn't say which token it is in: that is the token of the terms that it answers.
  const sent = readExactPayload(payload, { network: findNetworkIdV1(network) ?? network, asset });
  return {
    ...readTerms(paymentRequirements, paymentRequirements.maxAmountRequired),
    sent,
    network: findNetworkIdV1(paymentRequirements.network) ?? paymentRequirements.network,
    schemes: [scheme, paymentRequirements.scheme],
    fingerprint: fingerprintOf(1, paymentRequirements, [
      paymentRequirements.maxAmountRequired,
      paymentRequirements.resource,
    ]),
  };
}

function readV2({ paymentPayload, paymentRequirements }: Static<typeof RequestV2>): FacilitatorRequest {
  const { accepted, payload, resource } = paymentPayload;
  const offer = { network: accepted.network, asset: checksumAddress(accepted.asset) };
  return {
    ...readTerms(paymentRequirements, paymentRequirements.amount),
    sent: readExactPayload(payload, offer),
    network: paymentRequirements.network,
    schemes: [accepted.scheme, paymentRequirements.scheme],
    fingerprint: fingerprintOf(2, paymentRequirements, [
      paymentRequirements.amount,
      findResourceUrl(paymentRequirements.resource) ?? findResourceUrl(resource) ?? null,
    ]),
  };
}

/** Version 1 writes a resource as its URL, version 2 as an object that has one. */
function findResourceUrl(resource: unknown): string | undefined {
  const url = (resource as { url?: unknown } | null | undefined)?.url ?? resource;
  return typeof url === 'string' ? url : undefined;
}

type Requirements = Pick<
  Static<typeof RequestV2>['paymentRequirements'],
  'asset' | 'extra' | 'maxTimeoutSeconds' | 'network' | 'payTo' | 'scheme'
>;

function readTerms({ network, asset, payTo, maxTimeoutSeconds, extra }: Requirements, amount: string) {
  return {
    networkName: network,
    asset: checksumAddress(asset),
    amount: BigInt(amount),
    payTo: checksumAddress(payTo),
    maxTimeoutSeconds,
    extra: extra ?? {},
  };
}

function fingerprintOf(version: X402Version, terms: Requirements, more: readonly (string | null)[]): Buffer {
  const { scheme, network, asset, payTo, maxTimeoutSeconds } = terms;
  return sha256(
    JSON.stringify([
      `x402 facilitator ${version}`,
      scheme,
      network,
      asset.toLowerCase(),
      payTo.toLowerCase(),
      maxTimeoutSeconds,
      ...more,
    ]),
  );
}

function parse<Schema extends TSchema>(schema: Schema, body: unknown, version: X402Version): Static<Schema> {
  if (Value.Check(schema, body)) return body;
  const [fault] = Value.Errors(schema, body);
  const field = fault?.instancePath.slice(1).replaceAll('/', '.') || 'body';
  const message = fault?.message ?? 'is not valid';
  throw new AppError('invalid_request', `Not a request of x402 version ${version}: ${field} ${message}`, {
    errors: [{ field, message }],
    // The stock client reads the reason of a refusal from these, whatever the status.
    extra: {
      isValid: false,
      invalidReason: 'invalid_payload',
      success: false,
      errorReason: 'invalid_payload',
      transaction: '',
      network: '',
    },
  });
}
