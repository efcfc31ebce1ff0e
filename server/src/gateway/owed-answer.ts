import { reach } from '#points';
import type { WriteContext } from '../db/index.ts';
import {
  type DeliveryEnd,
  finishDelivery,
  hasLiveLease,
  type Payment,
  releaseDelivery,
  takeDelivery,
} from '../x402/index.ts';
import type { UpstreamStream } from './call-upstream.ts';
import { deliver, notReplayable, type PaidAnswer, type PaidCall, refuse, takenOver } from './paid-answer.ts';

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
      const taken = await takeDelivery(contextOf(call), payment);
      return taken && runDelivery(call, taken);
    }
  }
}

/** Lets a stream go to its client once its payment is settled, if nobody else has delivered on that payment meanwhile. */
export async function releaseStream(
  call: PaidCall,
  payment: Payment,
  stream: UpstreamStream,
  transaction: string,
): Promise<PaidAnswer> {
  if (await releaseDelivery(contextOf(call), payment, 'done'))
    return { kind: 'streamed', stream, transaction };
  stream.cancel();
  return takenOver();
}

/** Lets go of a stream whose payment isn't settled: once it is, the same payment runs the upstream again. */
export async function giveUpStream(call: PaidCall, payment: Payment, stream: UpstreamStream): Promise<void> {
  stream.cancel();
  await releaseDelivery(contextOf(call), payment, 'owed');
}

async function runDelivery(call: PaidCall, payment: Payment): Promise<PaidAnswer> {
  const transaction = payment.transaction ?? '';
  const answer = await call.callUpstream();
  await reach('answered');
  if (answer.kind === 'stream') {
    try {
      if (await finish(call, payment, { kind: 'streaming' }))
        return { kind: 'streamed', stream: answer, transaction };
      answer.cancel();
      return takenOver();
    } catch (error) {
      answer.cancel();
      throw error;
    }
  }
  if (answer.kind === 'success') {
    const { response } = answer;
    const ended = await finish(call, payment, { kind: 'responded', response });
    return ended ? { kind: 'delivered', response, transaction } : takenOver();
  }
  const failure = answer.kind === 'failed' ? answer.reason : `status ${answer.response.status}`;
  const refund = await call.signRefund(contextOf(call), payment);
  const ended = await finish(call, payment, { kind: 'failed', failure, refund });
  if (!ended) return takenOver();
  if (refund) void call.rail.settle(refund);
  if (answer.kind === 'client_error') return { kind: 'uncharged', response: answer.response };
  const consequence = refund
    ? 'the payment is given back'
    : 'nothing more is charged, and the same payment may be tried again';
  return refuse('upstream_failed', `Upstream request failed (${failure}): ${consequence}`);
}

function finish(call: PaidCall, payment: Payment, end: DeliveryEnd): Promise<boolean> {
  return finishDelivery(contextOf(call), payment, end);
}

function contextOf(call: PaidCall): WriteContext {
  return { ...call.origin, db: call.db, clock: call.clock, box: call.box, scope: call.target.environmentId };
}
