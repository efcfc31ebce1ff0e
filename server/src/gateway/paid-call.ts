import { setTimeout as sleep } from 'node:timers/promises';
import { reach } from '#points';
import { assert } from '../kernel/assert.ts';
import { addSeconds, unixSeconds } from '../kernel/clock.ts';
import {
  type AnswerSettlement,
  attemptLeaseSeconds,
  attemptSeconds,
  type Claim,
  findClaim,
  hasLiveLease,
  hasRunOut,
  isForSameRequest,
  mayFetch,
  type Payment,
  type Rail,
  type StoredResponse,
} from '../x402/index.ts';
import type { UpstreamStream } from './call-upstream.ts';
import { giveUpStream, releaseStream, serveOwed } from './owed-answer.ts';
import {
  deliver,
  notReplayable,
  type PaidAnswer,
  type PaidCall,
  refuse,
  takenOver,
  withheld,
} from './paid-answer.ts';

const firstPauseMs = 25;
/** Any number of copies may wait for one slow call, and each asks the database for itself. */
const slowestPauseMs = 250;

/**
 * Serves one priced call: verify, claim, forward, store, settle, answer (docs/life-of-a-paid-call.md). The claim is durable before the
 * upstream hears of the call, the answer before it is charged; a crash in between is taken up by a retry or a worker.
 */
export async function servePaidCall(call: PaidCall): Promise<PaidAnswer> {
  const arrived = call.rail.expect();
  return serve(call).finally(arrived);
}

async function serve(call: PaidCall): Promise<PaidAnswer> {
  const { rail, lane } = call;
  const balance = await verify(call);
  if (typeof balance === 'string') {
    // What was presented before may have run out, or be used on the chain: by us.
    const claim = await findClaim(call.db, rail.facts);
    return claim ? serveKnown(call, claim) : { kind: 'unpaid', reason: balance };
  }
  await reach('verified');
  const claimed = await lane.claim({ ...call, facts: rail.facts, balance }, call.origin);
  if (claimed.kind === 'refused') return { kind: 'unpaid', reason: claimed.reason };
  if (claimed.kind === 'known') return serveKnown(call, claimed.claim);
  const { payment } = claimed;
  await reach('claimed');
  return payment.mode === 'upfront' ? settleAndDeliver(call, payment) : runAttempt(call, payment);
}

/** What speaks against the payment, or what its payer has. */
async function verify({
  rail,
  clock,
  isForOtherPath,
}: PaidCall): Promise<Awaited<ReturnType<Rail['findFunds']>> | 'resource_mismatch'> {
  const now = clock.now();
  if (isForOtherPath) return 'resource_mismatch';
  return rail.findFault(now) ?? (await rail.findFunds(now));
}

/** A payment that was presented before: by a retry, a second connection, or somebody who has read it on the chain. */
async function serveKnown(call: PaidCall, first: Claim): Promise<PaidAnswer> {
  if (!isForSameRequest(first, call.rail.facts, call.fingerprint)) {
    return refuse(
      'payment_already_used',
      'This payment was made for another request; sign a new one for this',
    );
  }
  // Who has the payment while its upstream is still at work has it from the payer: nobody has read it on the chain.
  const { state } = first.payment;
  return follow(call, first, state === 'open' || state === 'forwarding');
}

/** Serves a payment from where it stands to its answer. `isTheirs`: it is known already that the answer is the caller's. */
async function follow(call: PaidCall, first: Claim, isTheirs: boolean): Promise<PaidAnswer> {
  const { db, clock, presenter, rail } = call;
  const deadline = addSeconds(clock.now(), attemptSeconds);
  let pauseMs = firstPauseMs;
  for (let claim: Claim | undefined = first; claim; claim = await findClaim(db, rail.facts)) {
    const { payment } = claim;
    const now = clock.now();
    if (!isTheirs && !mayFetch(payment, presenter, now)) return withheld();

    const answer = await serveState(call, payment, now);
    if (answer) return answer;
    if (now >= deadline)
      return refuse('payment_in_flight', 'The call that this payment pays for is still running; ask again');
    await sleep(pauseMs);
    pauseMs = Math.min(pauseMs * 1.5, slowestPauseMs);
  }
  throw new Error('a claim was deleted');
}

/** What a payment answers with as it stands; nothing while another request is at it. */
async function serveState(call: PaidCall, payment: Payment, now: Date): Promise<PaidAnswer | undefined> {
  switch (payment.state) {
    case 'open':
      return retry(call, payment);
    case 'forwarding':
      return hasLiveLease(payment, now) ? undefined : retry(call, payment);
    case 'settled':
      if (payment.delivery !== null) return serveOwed(call, payment);
      return payment.replayable ? deliver(call, payment, payment.transaction ?? '') : notReplayable();
    case 'responded':
    case 'settlement_failed':
    case 'settling':
      if (payment.mode !== 'optimistic' || payment.state === 'settlement_failed')
        return settleAndDeliver(call, payment);
      if (payment.delivery === 'running' && hasLiveLease(payment, now)) return undefined;
      // Its stream never began: it is had again, and once it is paid for.
      if (payment.delivery === 'owed' || payment.delivery === 'running')
        return settleAndDeliver(call, payment);
      return payment.replayable ? deliver(call, payment, undefined) : notReplayable();
  }
}

/** One more attempt of an open payment; nothing where another request has just begun it. */
async function retry(call: PaidCall, payment: Payment): Promise<PaidAnswer | undefined> {
  const now = call.clock.now();
  if (payment.validBefore < BigInt(unixSeconds(now) + attemptSeconds))
    return { kind: 'unpaid', reason: 'payment_expiring' };
  const balance = await call.rail.findFunds(now);
  if (typeof balance === 'string') return { kind: 'unpaid', reason: balance };
  const taken = await call.lane.retry(payment, balance, call.origin, call.hosted);
  if (typeof taken === 'string') return { kind: 'unpaid', reason: taken };
  if (!taken) return undefined;
  await reach('claimed');
  // A payer whose settlement failed meanwhile pays first now.
  return taken.mode === 'upfront' ? settleAndDeliver(call, taken) : runAttempt(call, taken);
}

async function runAttempt(call: PaidCall, payment: Payment): Promise<PaidAnswer> {
  const { lane, origin } = call;
  const answer = await call.callUpstream();
  await reach('answered');
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
  if (payment.mode === 'after_success') {
    const settlement = await call.rail.storeAndSettle(payment, response);
    if (settlement) return deliverSettled(response, settlement);
  }
  if (!(await lane.end(payment, { kind: 'responded', response }, origin))) return takenOver();
  await reach('stored');
  if (payment.mode === 'optimistic') {
    settleBehind(call, payment);
    return { kind: 'delivered', response, transaction: undefined };
  }
  return settleAndDeliver(call, payment, response);
}

/**
 * An answer that is not kept is charged at its headers, and let go of where it can't be paid for. It is this attempt's until its client
 * has its head, whenever it is settled: whoever comes after a crash before that is still owed it.
 */
async function streamAttempt(call: PaidCall, payment: Payment, stream: UpstreamStream): Promise<PaidAnswer> {
  try {
    // No later than its row will say.
    const running = { ...payment, leaseUntil: addSeconds(call.clock.now(), attemptLeaseSeconds) };
    if (!(await call.lane.end(payment, { kind: 'streaming' }, call.origin))) {
      stream.cancel();
      return takenOver();
    }
    await reach('stored');
    if (payment.mode === 'optimistic') {
      settleBehind(call, payment);
      return releaseStream(call, running, stream, undefined);
    }
    const settlement = await call.rail.settle(payment);
    if (settlement.kind === 'settled') return releaseStream(call, running, stream, settlement.transaction);
    await giveUpStream(call, payment, stream);
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

/** Gives the answer out once it is paid for; it is read from its row where this request hasn't got it itself. */
async function settleAndDeliver(
  call: PaidCall,
  payment: Payment,
  response?: StoredResponse,
): Promise<PaidAnswer> {
  if (hasRunOut(payment))
    return { kind: 'unsettled', settlement: { kind: 'failed', reason: payment.failure ?? '' } };
  const settlement = await call.rail.settle(payment);
  if (settlement.kind !== 'settled') return { kind: 'unsettled', settlement };
  if (payment.delivery !== null) return follow(call, await getClaim(call), true);
  const { transaction } = settlement;
  return response ? { kind: 'delivered', response, transaction } : deliver(call, payment, transaction);
}

function deliverSettled(response: StoredResponse, settlement: AnswerSettlement): PaidAnswer {
  if (settlement.kind === 'taken_over') return takenOver();
  if (settlement.kind !== 'settled') return { kind: 'unsettled', settlement };
  return { kind: 'delivered', response, transaction: settlement.transaction };
}

async function getClaim(call: PaidCall): Promise<Claim> {
  const claim = await findClaim(call.db, call.rail.facts);
  assert(claim, 'a claim is kept for ever');
  return claim;
}
