import type { Origin } from '../../db/index.ts';
import {
  isSamePayment,
  type Payment,
  type PaymentFacts,
  type PaymentTarget,
  type SettlementMode,
  type StoredResponse,
} from '../payments/payment.ts';
import type { Claim } from '../payments/payments.sql.ts';
import { type ClaimRefusal, type KnownBalance, payerName } from './plan-claims.ts';

/** Who presents a payment, as far as that matters for giving its answer out. */
export interface Presenter {
  agentId: string;
  /** The id is the subject of a token of ours, and not just a word in a header. */
  agentVerified: boolean;
  clientAddress: string;
  termsSecret: string | null;
}

/** A payment that was verified, and what it is to be claimed for. */
export interface NewClaim {
  facts: PaymentFacts;
  presenter: Presenter;
  /** What this payment may buy, and nothing else: SHA-256 over method, path, query and body. */
  fingerprint: Buffer;
  target: PaymentTarget;
  mode: SettlementMode;
  /** Whether the payee is a wallet here: only then can a payment be refunded. */
  hosted: boolean;
  /** Nothing where the rail itself reserves the money. */
  balance: KnownBalance | undefined;
  /** How many claims of this kind the environment has a day: the facilitator's, whose gas we pay. Others aren't counted. */
  perDay?: number;
}

export type Claimed =
  | { kind: 'claimed'; payment: Payment }
  /** The authorisation was presented before, whichever process got there first. */
  | { kind: 'known'; claim: Claim }
  | { kind: 'refused'; reason: ClaimRefusal };

/** How an upstream attempt ended. */
export type AttemptEnd =
  /** Nothing is charged, and the same request may be tried again with the same payment. */
  | { kind: 'failed'; failure: string }
  /** The answer is stored before it is charged. */
  | { kind: 'responded'; response: StoredResponse }
  /** The answer flows through as it comes: charged at its headers, and never given again. */
  | { kind: 'streaming' };

export interface ClaimJob extends Origin, NewClaim {
  kind: 'claim';
  payment: Payment;
}
export interface RetryJob extends Origin {
  kind: 'retry';
  payment: Payment;
  hosted: boolean;
  balance: KnownBalance | undefined;
}
export interface EndJob extends Origin {
  kind: 'end';
  payment: Payment;
  end: AttemptEnd;
}
export type Job = ClaimJob | EndJob | RetryJob;

/**
 * What became of a job: a claimed or taken payment, whether an attempt ended, or why not. `undecided`: its batch decided on the same
 * authorisation for something else, and refused that.
 */
export type Result = Payment | ClaimRefusal | 'undecided' | boolean | undefined;

/** Names the authorisation that a job is about, whatever it is sent for. */
export function authorisationName({ payment }: ClaimJob | RetryJob): string {
  return `${payerName(payment)} ${payment.nonce}`;
}

/** Whether what is refused to one of two jobs with the same authorisation is refused to the other: what they ask for is the same. */
export function isSameAsk(one: ClaimJob | RetryJob, other: ClaimJob | RetryJob): boolean {
  const { payment } = one;
  if (!isSamePayment(payment, other.payment) || payment.mode !== other.payment.mode) return false;
  if (one.kind === 'retry' || other.kind === 'retry') return payment.id === other.payment.id;
  return (
    one.fingerprint.equals(other.fingerprint) &&
    one.hosted === other.hosted &&
    one.perDay === other.perDay &&
    payment.environmentId === other.payment.environmentId &&
    payment.serverId === other.payment.serverId &&
    payment.endpointId === other.payment.endpointId
  );
}
