import { unixSeconds } from '../../kernel/clock.ts';
import type { UnusedNonce } from '../chain/nonce-use.ts';
import type { Payment } from '../payments/payment.ts';

/** A payment that the token refuses though the money is there: for its payer or its payee, or as all transfers are paused. */
const transferRefused = 'transfer_refused';

const expired = 'invalid_exact_evm_payload_authorization_valid_before';

/** What there is to say of a payment that wasn't settled, and whose nonce is unused. */
export type UnusedVerdict =
  /** It goes through, if it is sent. */
  | { kind: 'passes' }
  /** The chain's time hasn't come to it: it is tried again. */
  | { kind: 'early' }
  /** `byPayer`: what its payer has done has made it worth nothing, and nothing else. */
  | { kind: 'failed'; failure: string; byPayer: boolean };

/**
 * Whose fault it is that a payment isn't settled. Its payer's where the money isn't there any more, or code has taken its key's place since
 * it was taken, or the token refuses whatever it pays. Of what it could do nothing about, such as a payee that the token refuses or a chain that was away until it had run out, it isn't blamed.
 */
export function judgeUnused(
  { amount, validAfter, validBefore }: Pick<Payment, 'amount' | 'validAfter' | 'validBefore'>,
  { balance, hasCode, isBlacklisted, passes, timestamp }: Omit<UnusedNonce, 'kind'>,
  now: Date,
): UnusedVerdict {
  if (passes && !hasCode) return { kind: 'passes' };
  if (validBefore <= timestamp || validBefore <= BigInt(unixSeconds(now)))
    return {
      kind: 'failed',
      failure: expired,
      byPayer: false,
    };
  if (hasCode) return { kind: 'failed', failure: 'invalid_exact_evm_payload_signature', byPayer: true };
  if (balance < amount) return { kind: 'failed', failure: 'insufficient_funds', byPayer: true };
  // EIP-3009: valid only after that second.
  if (validAfter >= timestamp) return { kind: 'early' };
  return { kind: 'failed', failure: transferRefused, byPayer: isBlacklisted };
}

/** Whether a payment ran out before anybody had it settled: its row says all that the chain could. */
export function hasRunOut({ state, failure }: Pick<Payment, 'failure' | 'state'>): boolean {
  return state === 'settlement_failed' && failure === expired;
}
