import { type Address, isAddress, isAddressEqual } from 'viem';
import { AppError } from '../kernel/errors.ts';
import { parseAtomicAmount } from '../kernel/money.ts';
import {
  encodePayment,
  encodePaymentV1,
  type ExactPayment,
  findNetworkNameV1,
  type Network,
  type PaymentRequired,
  type PaymentRequiredV1,
  v1Headers,
  v2Headers,
} from '../x402/index.ts';

/** The one offer of a 402 that a wallet can pay, whichever version of x402 it was made in. */
export interface Offer {
  amount: bigint;
  payTo: string;
  resource: URL;
  maxTimeoutSeconds: number;
  /** The header that carries the signed payment to the seller. */
  header(payment: ExactPayment): { name: string; value: string };
}

/**
 * Finds what this wallet can pay: scheme `exact` by EIP-3009, on its network, in its token. Throws
 * `no_supported_payment_option` where nothing of the 402 is that, `invalid_request` where the offer makes no sense.
 */
export function findOffer(required: PaymentRequired | PaymentRequiredV1, network: Network): Offer {
  return required.x402Version === 1 ? findOfferV1(required, network) : findOfferV2(required, network);
}

function findOfferV2(required: PaymentRequired, network: Network): Offer {
  const accepted = required.accepts.find(
    (candidate) => candidate.network === network.id && isPayable(candidate, network),
  );
  if (!accepted) throw nothingToPay(network);
  return {
    amount: readAmount(accepted.amount, 'amount'),
    payTo: accepted.payTo,
    resource: readResource(required.resource.url, 'resource.url'),
    maxTimeoutSeconds: accepted.maxTimeoutSeconds,
    header: (payment) => ({
      name: v2Headers.signature,
      value: encodePayment({ required, accepted, payment }),
    }),
  };
}

/** In version 1 each offer names its own resource, and its network by a name of that version. */
function findOfferV1(required: PaymentRequiredV1, network: Network): Offer {
  const name = findNetworkNameV1(network.id);
  const accepted = required.accepts.find(
    (candidate) => candidate.network === name && isPayable(candidate, network),
  );
  if (!accepted) throw nothingToPay(network);
  return {
    amount: readAmount(accepted.maxAmountRequired, 'maxAmountRequired'),
    payTo: accepted.payTo,
    resource: readResource(accepted.resource, 'accepts.resource'),
    maxTimeoutSeconds: accepted.maxTimeoutSeconds,
    header: (payment) => ({ name: v1Headers.payment, value: encodePaymentV1(payment) }),
  };
}

function isPayable(
  offer: { scheme: string; asset: string; extra?: Record<string, unknown> | null },
  network: Network,
): boolean {
  return (
    offer.scheme === 'exact' &&
    isSameAddress(offer.asset, network.asset.address) &&
    (offer.extra?.['assetTransferMethod'] ?? 'eip3009') === 'eip3009'
  );
}

/** Whether what a seller wrote is this address. */
export function isSameAddress(text: string, address: Address): boolean {
  return isAddress(text) && isAddressEqual(text, address);
}

/** Nothing is nothing to decide, and no transfer of it buys anything. */
function readAmount(text: string, member: string): bigint {
  const amount = parseAtomicAmount(text, `payment_required.accepts.${member}`);
  if (amount > 0n) return amount;
  throw new AppError('invalid_request', `payment_required.accepts.${member} must be more than 0`);
}

function readResource(url: string, member: string): URL {
  const resource = URL.parse(url);
  if (resource && (resource.protocol === 'https:' || resource.protocol === 'http:')) return resource;
  throw new AppError('invalid_request', `payment_required.${member} must be the http(s) URL that was called`);
}

function nothingToPay(network: Network): AppError {
  return new AppError(
    'no_supported_payment_option',
    `None of the offers is scheme exact with ${network.asset.currency} on ${network.id}, which is what this wallet pays with`,
  );
}
