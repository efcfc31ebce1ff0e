import type { AgentId } from '../kernel/ids.ts';
import { type Delegation, headroom, isHostAllowed, type Limit } from './delegation.ts';

/** One payment that somebody wants to make under a delegation. */
export interface PaymentRequest {
  agentId: AgentId;
  agentActive: boolean;
  amount: bigint;
  currency: string;
  resource: URL;
  /** Whether the payee was tied to the resource by us, and not only by whoever asks. */
  payeeVerified: boolean;
}

export type ReasonCode =
  | 'agent_inactive'
  | 'agent_mismatch'
  | 'currency_not_allowed'
  | 'delegation_expired'
  | 'delegation_not_yet_valid'
  | 'delegation_revoked'
  | 'host_not_allowed'
  | 'lifetime_limit_exceeded'
  | 'payee_unverified'
  | 'per_transaction_limit_exceeded'
  | 'within_limits';

/** The answer to "may it?": a value, never an exception. */
export interface Decision {
  action: 'ALLOW' | 'DENY';
  reasonCodes: ReasonCode[];
  /** The most that would have been allowed; 0 where something other than an amount denies. */
  maxAmount: bigint;
}

/**
 * Decides one payment of an exact amount, and collects every failure rather than the first. An amount that doesn't fit is
 * denied: a signed x402 payment can't be made smaller.
 */
export function decide(
  delegation: Delegation,
  limits: readonly Limit[],
  request: PaymentRequest,
  now: Date,
): Decision {
  const inCurrency = limits.filter((limit) => limit.currency === request.currency);
  const failures: ReasonCode[] = [];
  if (!request.agentActive) failures.push('agent_inactive');
  if (delegation.agentId !== request.agentId) failures.push('agent_mismatch');
  if (delegation.status === 'revoked') failures.push('delegation_revoked');
  if (now < delegation.validFrom) failures.push('delegation_not_yet_valid');
  if (now >= delegation.validUntil) failures.push('delegation_expired');
  if (!isHostAllowed(delegation.hostAllowlist, request.resource)) failures.push('host_not_allowed');
  if (!request.payeeVerified) failures.push('payee_unverified');
  // Nothing matches: a currency without a limit is one that nobody granted.
  if (inCurrency.length === 0) failures.push('currency_not_allowed');

  const maxAmount = failures.length > 0 ? 0n : least(inCurrency.map(headroom));
  for (const limit of inCurrency) {
    if (request.amount > headroom(limit)) failures.push(`${limit.kind}_limit_exceeded`);
  }
  return failures.length > 0
    ? { action: 'DENY', reasonCodes: failures, maxAmount }
    : { action: 'ALLOW', reasonCodes: ['within_limits'], maxAmount: request.amount };
}

function least(amounts: readonly bigint[]): bigint {
  return amounts.reduce((smallest, amount) => (amount < smallest ? amount : smallest));
}
