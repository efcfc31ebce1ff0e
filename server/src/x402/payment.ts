import type { Address, Hex } from 'viem';
import type { EndpointId, EnvironmentId, PaymentId, ServerId } from '../kernel/ids.ts';
import type { Authorization, ExactPayment } from './exact.ts';
import type { NetworkId } from './networks.ts';

/**
 * `open`: claimed, nothing running. `forwarding`: an upstream attempt, until `leaseUntil`. `responded`: the answer is
 * stored. `settling`: a transaction is on its way, watched until `leaseUntil`. `settled` and `settlement_failed`: what
 * the chain said; from the latter, settling may be tried again.
 */
export type PaymentState = 'forwarding' | 'open' | 'responded' | 'settled' | 'settlement_failed' | 'settling';

/** An x402 payment that was claimed here, and how far it has come. */
export interface Payment {
  environmentId: EnvironmentId;
  id: PaymentId;
  serverId: ServerId;
  endpointId: EndpointId;
  network: NetworkId;
  asset: Address;
  payer: Address;
  nonce: Hex;
  payTo: Address;
  amount: bigint;
  validAfter: bigint;
  validBefore: bigint;
  signature: Hex;
  agentId: string;
  agentVerified: boolean;
  clientAddress: string;
  termsSecretHash: Buffer | null;
  state: PaymentState;
  /** Counts upstream attempts: the fence against a process that woke up after its lease. */
  attempt: number;
  leaseUntil: Date | null;
  transaction: Hex | null;
  failure: string | null;
  createdAt: Date;
  settledAt: Date | null;
}

export interface StoredResponse {
  status: number;
  /** Raw pairs, as they go to the client. */
  headers: readonly string[];
  body: Buffer;
}

export function authorizationOf(payment: Payment): Authorization {
  return {
    from: payment.payer,
    to: payment.payTo,
    value: payment.amount,
    validAfter: payment.validAfter,
    validBefore: payment.validBefore,
    nonce: payment.nonce,
  };
}

export function exactPaymentOf(payment: Payment): ExactPayment {
  return {
    network: payment.network,
    asset: payment.asset,
    authorization: authorizationOf(payment),
    signature: payment.signature,
  };
}

/** Whether what was sent is the payment that was claimed under this nonce, to the last bit that was signed. */
export function isSamePayment(sent: ExactPayment, claimed: Payment): boolean {
  const { authorization } = sent;
  return (
    sent.signature === claimed.signature &&
    authorization.to === claimed.payTo &&
    authorization.value === claimed.amount &&
    authorization.validAfter === claimed.validAfter &&
    authorization.validBefore === claimed.validBefore
  );
}

export function hasLiveLease(payment: Payment, now: Date): boolean {
  return payment.leaseUntil !== null && payment.leaseUntil > now;
}

/** Binds a payment's stored answer to its row. */
export function storedResponseRow(payment: Pick<Payment, 'environmentId' | 'id'>): string {
  return `stored_responses/${payment.environmentId}/${payment.id}`;
}
