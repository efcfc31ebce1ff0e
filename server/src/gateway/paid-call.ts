import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Origin } from '../db/index.ts';
import { addSeconds, type Clock, unixSeconds } from '../kernel/clock.ts';
import type { SecretBox } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import {
  attemptSeconds,
  type Claim,
  type ClaimRefusal,
  findClaim,
  findStoredResponse,
  hasLiveLease,
  isForSameRequest,
  mayFetch,
  type NewClaim,
  type Payment,
  type PaymentFault,
  type PaymentLane,
  type Rail,
  type Settlement,
  type StoredResponse,
} from '../x402/index.ts';
import type { UpstreamAnswer, UpstreamStream } from './call-upstream.ts';

/** A priced call whose payment could be read, and all that serving it needs. */
export interface PaidCall extends Pick<NewClaim, 'fingerprint' | 'hosted' | 'mode' | 'presenter' | 'target'> {
  db: Database;
  clock: Clock;
  box: SecretBox;
  lane: PaymentLane;
  rail: Rail;
  /** Whom the audit log names. */
  origin: Origin;
  /** Runs the upstream once. */
  callUpstream(): Promise<UpstreamAnswer>;
}

export type PaidAnswer =
  /** Paid and delivered; without a transaction yet, where the endpoint lets its answers out first. */
  | { kind: 'delivered'; response: StoredResponse; transaction: string | undefined }
  /** Paid, and on its way: the stream is to be piped. */
  | { kind: 'streamed'; stream: UpstreamStream; transaction: string | undefined }
  /** The upstream's own 4xx: passed on, uncharged. */
  | { kind: 'uncharged'; response: StoredResponse }
  /** The payment doesn't buy this; the terms are offered again. */
  | { kind: 'unpaid'; reason: ClaimRefusal | PaymentFault | 'payment_expiring' }
  | { kind: 'unsettled'; settlement: Exclude<Settlement, { kind: 'settled' }> }
  /** Somebody else's answer: 409, and not a word more. */
  | { kind: 'withheld' }
  | { kind: 'refused'; error: AppError };

const pollMs = 25;

/**
 * Serves one priced call: verify, claim, forward, store, settle, answer (docs/life-of-a-paid-call.md). The claim is durable before the
 * upstream hears of the call, the answer before it is charged; a crash in between is taken up by a retry or a worker.
 */
export async function servePaidCall(call: PaidCall): Promise<PaidAnswer> {
  const { rail, lane } = call;
  const balance = await verify(call);
  if (typeof balance === 'string') {
    // What was presented before may have run out, or be used on the chain: by us.
    const claim = await findClaim(call.db, rail.facts);
    return claim ? serveKnown(call, claim) : { kind: 'unpaid', reason: balance };
  }
  const claimed = await lane.claim({ ...call, facts: rail.facts, balance }, call.origin);
  if (claimed.kind === 'refused') return { kind: 'unpaid', reason: claimed.reason };
  if (claimed.kind === 'known') return serveKnown(call, claimed.claim);
  return runAttempt(call, claimed.payment);
}

/** What speaks against the payment, or what its payer has. */
async function verify({ rail, clock }: PaidCall): ReturnType<Rail['findFunds']> {
  const now = clock.now();
  return rail.findFault(now) ?? (await rail.findFunds(now));
}

/** A payment that was presented before: by a retry, a second connection, or somebody who has read it on the chain. */
async function serveKnown(call: PaidCall, first: Claim): Promise<PaidAnswer> {
  const { db, clock, presenter, rail } = call;
  if (!isForSameRequest(first, rail.facts, call.fingerprint)) {
    return refuse(
      'payment_already_used',
      'This payment was made for another request; sign a new one for this',
    );
  }
  const deadline = addSeconds(clock.now(), attemptSeconds);
  for (let claim: Claim | undefined = first; claim; claim = await findClaim(db, rail.facts)) {
    const { payment } = claim;
    const now = clock.now();
    if (payment.state !== 'open' && !mayFetch(payment, presenter, now)) return { kind: 'withheld' };

    if (!payment.replayable) return notReplayable();
    if (payment.state === 'settled') return deliver(call, payment, payment.transaction ?? '');
    if (payment.state === 'open' || (payment.state === 'forwarding' && !hasLiveLease(payment, now))) {
      const answer = await retry(call, payment);
      if (answer) return answer;
    } else if (payment.state !== 'forwarding') {
      if (payment.mode === 'optimistic' && payment.state !== 'settlement_failed')
        return deliver(call, payment, undefined);
      return settleAndDeliver(call, payment);
    }
    if (now >= deadline)
      return refuse('payment_in_flight', 'The call that this payment pays for is still running; ask again');
    await sleep(pollMs);
  }
  throw new Error('a claim was deleted');
}

/** One more attempt of an open payment; nothing where another request has just begun it. */
async function retry(call: PaidCall, payment: Payment): Promise<PaidAnswer | undefined> {
  const now = call.clock.now();
  if (payment.validBefore < BigInt(unixSeconds(now) + attemptSeconds))
    return { kind: 'unpaid', reason: 'payment_expiring' };
  const balance = await call.rail.findFunds(now);
  if (typeof balance === 'string') return { kind: 'unpaid', reason: balance };
  const taken = await call.lane.retry(payment, balance, call.origin);
  if (typeof taken === 'string') return { kind: 'unpaid', reason: taken };
  return taken ? runAttempt(call, taken) : undefined;
}

async function runAttempt(call: PaidCall, payment: Payment): Promise<PaidAnswer> {
  const { lane, origin } = call;
  const answer = await call.callUpstream();
  if (answer.kind === 'failed') {
    await lane.end(payment, { kind: 'failed', failure: answer.reason }, origin);
    return refuse(
      'upstream_failed',
      `Upstream request failed (${answer.reason}): no payment was taken, and the same payment may be tried again`,
    );
  }
  if (answer.kind === 'client_error') {
    const { response } = answer;
    await lane.end(payment, { kind: 'failed', failure: `status ${response.status}` }, origin);
    return { kind: 'uncharged', response };
  }
  if (answer.kind === 'stream') return streamAttempt(call, payment, answer);
  const { response } = answer;
  if (!(await lane.end(payment, { kind: 'responded', response }, origin))) return takenOver();
  if (payment.mode === 'optimistic') {
    settleBehind(call, payment);
    return { kind: 'delivered', response, transaction: undefined };
  }
  return settleAndDeliver(call, payment, response);
}

/** An answer that is not kept is charged at its headers, and let go of where it can't be paid for. */
async function streamAttempt(call: PaidCall, payment: Payment, stream: UpstreamStream): Promise<PaidAnswer> {
  try {
    if (!(await call.lane.end(payment, { kind: 'streaming' }, call.origin))) {
      stream.cancel();
      return takenOver();
    }
    if (payment.mode === 'optimistic') {
      settleBehind(call, payment);
      return { kind: 'streamed', stream, transaction: undefined };
    }
    const settlement = await call.rail.settle(payment);
    if (settlement.kind === 'settled')
      return { kind: 'streamed', stream, transaction: settlement.transaction };
    stream.cancel();
    return { kind: 'unsettled', settlement };
  } catch (error) {
    stream.cancel();
    throw error;
  }
}

/** The settler keeps what it was given whatever becomes of this request, and a worker takes it up after a crash. */
function settleBehind(call: PaidCall, payment: Payment): void {
  void call.rail.settle(payment);
}

/** This process slept through its lease: the payment is another attempt's now. */
function takenOver(): PaidAnswer {
  return refuse(
    'payment_in_flight',
    'The call was taken over by another attempt; ask again with the same payment',
  );
}

/** Gives the answer out once it is paid for; it is read from its row where this request hasn't got it itself. */
async function settleAndDeliver(
  call: PaidCall,
  payment: Payment,
  response?: StoredResponse,
): Promise<PaidAnswer> {
  const settlement = await call.rail.settle(payment);
  if (settlement.kind !== 'settled') return { kind: 'unsettled', settlement };
  const { transaction } = settlement;
  return response ? { kind: 'delivered', response, transaction } : deliver(call, payment, transaction);
}

async function deliver(
  call: PaidCall,
  payment: Payment,
  transaction: string | undefined,
): Promise<PaidAnswer> {
  const response = await findStoredResponse(call, payment);
  if (response) return { kind: 'delivered', response, transaction };
  return refuse(
    'payment_already_used',
    'This payment was used, and its answer is no longer kept; sign a new one',
  );
}

function notReplayable(): PaidAnswer {
  return refuse(
    'response_not_replayable',
    'The answer to this payment flowed through and was not kept: nothing more is charged; sign a new payment for another',
  );
}

function refuse(code: AppError['code'], detail: string): PaidAnswer {
  return { kind: 'refused', error: new AppError(code, detail) };
}
