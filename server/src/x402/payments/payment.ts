import type { Address, Hex } from 'viem';
import type { Actor } from '../../db/index.ts';
import type { EndpointId, EnvironmentId, PaymentId, ServerId } from '../../kernel/ids.ts';
import type { Authorization, ExactPayment } from '../exact/exact.ts';

/**
 * `open`: claimed, nothing running. `forwarding`: an upstream attempt, until `leaseUntil`. `responded`: what it pays for is
 * done, and the money is due. `settling`: a transaction is on its way. `settled` and `settlement_failed`: what the
 * chain said; from the latter, settling may be tried again.
 */
export type PaymentState = 'forwarding' | 'open' | 'responded' | 'settled' | 'settlement_failed' | 'settling';

/** When an endpoint's payments are settled: before the answer is released, behind it, or before the upstream is called. */
export type SettlementMode = 'after_success' | 'optimistic' | 'upfront';

/**
 * How far the answer has come of a payment that is charged before it: `owed`, then `running` until `leaseUntil`, and one of two ends.
 * A stream is running from its headers on, until its client has them; given up, it is owed. `lost`: refunded, and then not paid for good.
 * Where somebody else's API delivers, `done` once that was told to.
 */
export type Delivery = 'done' | 'lost' | 'owed' | 'refunded' | 'running';

/** Names an authorisation, whichever rail it goes by: it is claimed once for all time. */
export interface PaymentKey {
  /** CAIP-2, or `credence:credits`. */
  network: string;
  /** The token's contract, or the currency of credits. */
  asset: string;
  /** The address that pays, or the environment whose credits do. */
  payer: string;
  nonce: string;
}

/** What a payment says, to the last bit that was signed. */
export interface PaymentFacts extends PaymentKey {
  payTo: string;
  /** Atomic units of the asset. */
  amount: bigint;
  /** Unix seconds. */
  validAfter: bigint;
  validBefore: bigint;
  signature: string;
}

/** Of what a payment is part: absent ones where the facilitator took it for somebody else's API. */
export interface PaymentTarget {
  environmentId: EnvironmentId;
  serverId: ServerId | null;
  endpointId: EndpointId | null;
}

/** An x402 payment that was claimed here, and how far it has come. */
export interface Payment extends PaymentFacts, PaymentTarget {
  id: PaymentId;
  mode: SettlementMode;
  /** What `X-Agent-ID` said; the API key, where the facilitator took the payment. */
  agentId: string;
  agentVerified: boolean;
  clientAddress: string;
  termsSecretHash: Buffer | null;
  state: PaymentState;
  /** Counts upstream attempts: the fence against a process that woke up after its lease. */
  attempt: number;
  leaseUntil: Date | null;
  /** Nothing where the answer was stored before it was charged. */
  delivery: Delivery | null;
  /** False where the answer flowed through as it came, and can't be given again. */
  replayable: boolean;
  /** The chain's hash, or the ledger's transfer. */
  transaction: string | null;
  failure: string | null;
  /** The payment that this one gives back. */
  refundOf: PaymentId | null;
  createdAt: Date;
  settledAt: Date | null;
}

export interface StoredResponse {
  status: number;
  /** Raw pairs, as they go to the client. */
  headers: readonly string[];
  body: Buffer;
}

/** A payment of scheme `exact`, as its claim keeps it. */
export function exactFacts({ network, asset, authorization, signature }: ExactPayment): PaymentFacts {
  const { from, to, value, validAfter, validBefore, nonce } = authorization;
  return { network, asset, payer: from, payTo: to, amount: value, validAfter, validBefore, nonce, signature };
}

/** The authorisation of a payment that was claimed as one of scheme `exact`. */
export function authorizationOf(payment: Payment): Authorization {
  return {
    from: payment.payer as Address,
    to: payment.payTo as Address,
    value: payment.amount,
    validAfter: payment.validAfter,
    validBefore: payment.validBefore,
    nonce: payment.nonce as Hex,
  };
}

export function exactPaymentOf(payment: Payment): ExactPayment {
  return {
    network: payment.network,
    asset: payment.asset as Address,
    authorization: authorizationOf(payment),
    signature: payment.signature as Hex,
  };
}

/** Whether the facilitator took a payment, for somebody else's API. A refund of ours is for no API of ours either. */
export function isFacilitated({ serverId, refundOf }: Payment): boolean {
  return serverId === null && refundOf === null;
}

/** Who presented a payment, as the audit log names them: an agent, as far as it showed that, or the API key that had it settled. */
export function presenterOf(payment: Payment): Actor {
  if (isFacilitated(payment)) return { kind: 'api_key', id: payment.agentId };
  return { kind: payment.agentVerified ? 'agent' : 'anonymous', id: payment.agentId };
}

/** Whether what was sent is the payment that was claimed under this nonce. */
export function isSamePayment(sent: PaymentFacts, claimed: Payment): boolean {
  return (
    sent.signature === claimed.signature &&
    sent.payTo === claimed.payTo &&
    sent.amount === claimed.amount &&
    sent.validAfter === claimed.validAfter &&
    sent.validBefore === claimed.validBefore
  );
}

export function hasLiveLease(payment: Payment, now: Date): boolean {
  return payment.leaseUntil !== null && payment.leaseUntil > now;
}

/** Binds a payment's stored answer to its row. */
export function storedResponseRow(payment: Pick<Payment, 'environmentId' | 'id'>): string {
  return `stored_responses/${payment.environmentId}/${payment.id}`;
}
