import { setTimeout as sleep } from 'node:timers/promises';
import { reach } from '#points';
import type { WriteContext } from '../db/index.ts';
import { addSeconds } from '../kernel/clock.ts';
import { limits } from '../kernel/limits.ts';
import {
  attemptLeaseSeconds,
  finishDelivery,
  hasLiveLease,
  type Payment,
  releaseDelivery,
  takeDelivery,
} from '../x402/index.ts';
import type { UpstreamStream } from './call-upstream.ts';
import {
  deliver,
  notReplayable,
  type PaidAnswer,
  type PaidCall,
  refuse,
  type StreamStart,
  takenOver,
} from './paid-answer.ts';

/** Serves a payment that is settled and was to be answered afterwards; nothing while another request is at it. */
export async function serveOwed(call: PaidCall, payment: Payment): Promise<PaidAnswer | undefined> {
  const { clock } = call;
  switch (payment.delivery) {
    case 'done':
      return payment.replayable ? deliver(call, payment, payment.transaction ?? '') : notReplayable();
    case 'lost':
    case 'refunded':
      return refuse(
        'payment_refunded',
        'The upstream failed after this payment was taken, and it was given back: sign a new one',
      );
    case null:
    case 'owed':
    case 'running': {
      if (hasLiveLease(payment, clock.now())) return undefined;
      // Dated before the row is, and so no later than it says.
      const leaseUntil = addSeconds(clock.now(), attemptLeaseSeconds);
      const taken = await takeDelivery(contextOf(call), payment);
      return taken && runDelivery(call, { ...taken, leaseUntil });
    }
  }
}

/**
 * A stream whose payment is settled, or will be behind it, on its way to its client, while this attempt has the delivery. Only when the
 * client has its head is it delivered: a copy that comes after a crash before that has the upstream run for it.
 */
export function releaseStream(
  call: PaidCall,
  payment: Payment,
  stream: UpstreamStream,
  transaction: string | undefined,
): PaidAnswer {
  if (hasLiveLease(payment, call.clock.now()))
    return { kind: 'streamed', stream, transaction, start: startOf(call, payment, transaction) };
  stream.cancel();
  return takenOver();
}

/** Lets go of a stream whose payment isn't settled: once it is, the same payment runs the upstream again. */
export async function giveUpStream(call: PaidCall, payment: Payment, stream: UpstreamStream): Promise<void> {
  stream.cancel();
  await releaseDelivery(contextOf(call), payment, 'owed');
}

function startOf(call: PaidCall, payment: Payment, transaction: string | undefined): StreamStart {
  const release = async (delivery: 'done' | 'owed') => {
    await releaseDelivery(contextOf(call), payment, delivery);
  };
  return {
    begun: () => persist(() => release('done')),
    left: () => release(payment.attempt < limits.streamRunsMax ? 'owed' : 'done'),
    failed: async (reason) =>
      refuseFailed(reason, await failDelivery(call, payment, reason, transaction !== undefined)),
  };
}

/** Between attempts to write down that a client has its answer: without that, it would get its money back as well. */
const pausesMs = [100, 500, 2_000];

async function persist(write: () => Promise<void>): Promise<void> {
  for (const pauseMs of pausesMs) {
    try {
      return await write();
    } catch {
      await sleep(pauseMs);
    }
  }
  return write();
}

async function runDelivery(call: PaidCall, payment: Payment): Promise<PaidAnswer> {
  const transaction = payment.transaction ?? '';
  const answer = await call.callUpstream();
  await reach('answered');
  switch (answer.kind) {
    case 'stream':
      return releaseStream(call, payment, answer, transaction);
    case 'success': {
      const { response } = answer;
      const ended = await finishDelivery(contextOf(call), payment, { kind: 'responded', response });
      return ended ? { kind: 'delivered', response, transaction } : takenOver();
    }
    case 'failed': {
      const { reason } = answer;
      return refuseFailed(reason, await failDelivery(call, payment, reason));
    }
    case 'client_error': {
      const { response } = answer;
      const failed = await failDelivery(call, payment, `status ${response.status}`);
      return failed ? { kind: 'uncharged', response } : takenOver();
    }
  }
}

/** Ends a delivery whose upstream failed, and says what that means for the money; nothing where another has the delivery by now. */
async function failDelivery(
  call: PaidCall,
  payment: Payment,
  failure: string,
  isSettled = true,
): Promise<string | undefined> {
  const refund = isSettled ? await call.signRefund(contextOf(call), payment) : undefined;
  if (!(await finishDelivery(contextOf(call), payment, { kind: 'failed', failure, refund })))
    return undefined;
  if (!refund) return 'nothing more is charged, and the same payment may be tried again';
  void call.rail.settle(refund);
  return 'the payment is given back';
}

function refuseFailed(failure: string, consequence: string | undefined): PaidAnswer {
  if (consequence === undefined) return takenOver();
  return refuse('upstream_failed', `Upstream request failed (${failure}): ${consequence}`);
}

function contextOf(call: PaidCall): WriteContext {
  return { ...call.origin, db: call.db, clock: call.clock, box: call.box, scope: call.target.environmentId };
}
