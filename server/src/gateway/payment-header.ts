import type { IncomingMessage } from 'node:http';
import { AppError } from '../kernel/errors.ts';
import {
  creditFacts,
  decodeAnyPayment,
  decodePaymentV1,
  encodeSettlement,
  encodeSettlementV1,
  type ReceivedCredit,
  type ReceivedPayment,
  type SettlementOutcome,
  type Terms,
  v1Headers,
  v2Headers,
  type X402Version,
} from '../x402/index.ts';

/** A payment, and the version of x402 that it came in: the answer is to speak the same. */
export interface SentPayment {
  version: X402Version;
  payment: ReceivedCredit | ReceivedPayment;
}

/**
 * Reads the payment of a request; nothing where it has none. Throws `invalid_payment` where it can't be read, or where
 * there are two: which of them would be charged is not for us to guess.
 */
export function readPayment(request: IncomingMessage, terms: Terms): SentPayment | undefined {
  const v2 = request.headersDistinct['payment-signature'] ?? [];
  const v1 = request.headersDistinct['x-payment'] ?? [];
  const [value] = [...v2, ...v1];
  if (value === undefined) return undefined;
  if (v1.length + v2.length > 1)
    throw new AppError('invalid_payment', 'Send one payment header, not several');
  if (v2.length === 1) return { version: 2, payment: decodeAnyPayment(value) };
  return { version: 1, payment: decodePaymentV1(value, { asset: terms.network.asset.address }) };
}

/** The header that tells a payer what became of its payment, as name and value, in the version that it paid with. */
export function settlementHeader(settlement: SettlementOutcome, sent: SentPayment): [string, string] {
  const payment = payerOf(sent.payment);
  return sent.version === 1
    ? [v1Headers.response, encodeSettlementV1(settlement, payment)]
    : [v2Headers.response, encodeSettlement(settlement, payment)];
}

function payerOf(payment: ReceivedCredit | ReceivedPayment): { network: string; payer: string } {
  if ('credit' in payment) return creditFacts(payment.credit);
  return { network: payment.network, payer: payment.authorization.from };
}
