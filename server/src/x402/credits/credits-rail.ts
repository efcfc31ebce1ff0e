import type { EnvironmentKind } from '../../accounts/index.ts';
import { unixSeconds } from '../../kernel/clock.ts';
import type { EnvironmentId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { type CreditKey, type CreditPayment, creditsNetwork, transferKey } from './credit-payment.ts';
import type { CreditVerifier } from './credit-verifier.ts';
import type { PaymentFault } from '../exact/exact.ts';
import type { PaymentFacts } from '../payments/payment.ts';
import { attemptSeconds, type Rail } from '../rail.ts';

/** What one call costs in credits: the second entry of a 402's `accepts`. */
export interface CreditTerms {
  currency: string;
  amount: bigint;
  /** The seller's environment. */
  payTo: EnvironmentId;
  /** The gateway's URL: a payment is for one instance. */
  audience: string;
  maxTimeoutSeconds: number;
}

/** Clocks may differ by this much (RFC 8725 leaves it to us). */
const skewSeconds = 30;

/**
 * What the credits of an environment are in, on the wire and in the ledger. Credits of a sandbox are another currency, so that test
 * money never meets the other: an account, a transfer and a payment each have one currency.
 */
export function creditCurrency(kind: EnvironmentKind): string {
  return kind === 'production' ? 'USDC' : 'USDC.sandbox';
}

/**
 * Prepaid credits: the claim reserves them, in its own transaction, and the end of the attempt posts or voids them in its own. So
 * nothing is left to be asked or settled here. `key` is the payer's, by the payment's `kid`, if it is registered and not revoked;
 * without `terms`, the seller takes no credits.
 */
export function creditsRail(args: {
  sent: CreditPayment;
  terms: CreditTerms | undefined;
  key: CreditKey | undefined;
  isSignedBy: CreditVerifier;
}): Rail {
  const { sent, terms, key, isSignedBy } = args;
  return {
    facts: creditFacts(sent),
    findFault: (now) => findCreditFault(sent, terms, key, unixSeconds(now)),
    // Asked before each attempt: a key that was revoked since the last one pays for no other.
    async findFunds() {
      if (!key) return 'invalid_exact_credits_payload_key';
      return (await isSignedBy(sent, key)) ? undefined : 'invalid_exact_credits_payload_signature';
    },
    settle: async (payment) => ({
      kind: 'settled',
      transaction: payment.transaction ?? transferKey(payment),
    }),
    storeAndSettle: () => undefined,
    expect: () => () => {},
  };
}

/** What speaks against a credit payment before its signature is looked at: the terms, its window, or whose key it is. */
function findCreditFault(
  sent: CreditPayment,
  terms: CreditTerms | undefined,
  key: CreditKey | undefined,
  now: number,
): PaymentFault | undefined {
  if (!terms) return 'invalid_network';
  if (sent.asset !== terms.currency) return 'invalid_payment_requirements';
  if (sent.audience !== terms.audience) return 'invalid_exact_credits_payload_audience';
  if (sent.payee !== terms.payTo) return 'invalid_exact_credits_payload_recipient_mismatch';
  if (sent.amount !== terms.amount) return 'invalid_exact_credits_payload_amount_mismatch';
  if (sent.validAfter > now + skewSeconds) return 'invalid_exact_credits_payload_not_before';
  if (sent.expiresAt < now + attemptSeconds || sent.expiresAt > now + limits.paymentValiditySecondsMax)
    return 'invalid_exact_credits_payload_expiry';
  if (!key || key.environmentId !== sent.payer || key.currency !== terms.currency)
    return 'invalid_exact_credits_payload_key';
  return undefined;
}

/** A credit payment, as its claim keeps it. */
export function creditFacts(sent: CreditPayment): PaymentFacts {
  return {
    network: creditsNetwork,
    asset: sent.asset,
    payer: sent.payer,
    payTo: sent.payee,
    amount: sent.amount,
    nonce: sent.nonce,
    validAfter: BigInt(sent.validAfter),
    validBefore: BigInt(sent.expiresAt),
    signature: sent.jws,
  };
}
