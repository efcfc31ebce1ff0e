import type { ServerResponse } from 'node:http';
import { AppError } from '../kernel/errors.ts';
import type { SettlementOutcome } from '../x402/index.ts';
import type { PaidAnswer } from './paid-answer.ts';
import { type SentPayment, settlementHeader } from './payment-header.ts';
import {
  type Offer,
  sendError,
  sendPaymentRequired,
  sendPending,
  sendStored,
  sendStream,
} from './respond.ts';

/** The call that an answer is for. */
interface AnsweredCall {
  sent: SentPayment;
  offer: (error?: string) => Offer;
  requestId: string;
  /** Told of what goes wrong behind an answer that is on its way already. */
  report: (error: unknown) => void;
}

/** Gives the answer of a paid call to its client, in the version of x402 that it paid with. */
export async function sendPaidAnswer(
  response: ServerResponse,
  answered: PaidAnswer,
  call: AnsweredCall,
): Promise<void> {
  const { requestId, offer, sent } = call;
  switch (answered.kind) {
    case 'delivered':
      return sendStored(response, answered.response, settlementHeader(outcomeOf(answered), sent));
    case 'streamed':
      return streamAnswer(response, answered, call);
    case 'uncharged':
      return sendStored(response, answered.response);
    case 'refused':
      return sendError(response, answered.error, requestId);
    case 'unpaid': {
      const { reason } = answered;
      return sendPaymentRequired(response, offer(reason), unpaidError(reason), requestId);
    }
    case 'unsettled':
      return sendUnsettled(response, answered.settlement, call);
  }
}

async function streamAnswer(
  response: ServerResponse,
  answered: Extract<PaidAnswer, { kind: 'streamed' }>,
  call: AnsweredCall,
): Promise<void> {
  const { start, stream } = answered;
  const ending = sendStream(response, stream, settlementHeader(outcomeOf(answered), call.sent));
  // A stream is opened at once or never.
  if (response.headersSent) {
    await Promise.all([ending, start.begun().catch(call.report)]);
    return undefined;
  }
  const ended = await ending.catch(async (error: unknown) => {
    await start.failed('its headers cannot be sent on');
    throw error;
  });
  if (ended.kind === 'failed') return sendPaidAnswer(response, await start.failed(ended.reason), call);
  return start.left();
}

/** What is still to be settled behind its answer isn't a success yet; nor is it a failure, as the status says. */
function outcomeOf({ transaction }: { transaction: string | undefined }): SettlementOutcome {
  return transaction === undefined
    ? { success: false, errorReason: 'settlement_pending' }
    : { success: true, transaction };
}

function sendUnsettled(
  response: ServerResponse,
  settlement: { kind: 'failed'; reason: string } | { kind: 'pending' },
  call: AnsweredCall,
): void {
  if (settlement.kind === 'pending') {
    const header = settlementHeader({ success: false, errorReason: 'settlement_pending' }, call.sent);
    const detail =
      'The payment is on its way to the chain: send the same payment again, and do not sign another';
    return sendPending(response, new AppError('settlement_pending', detail), call.requestId, header);
  }
  const header = settlementHeader({ success: false, errorReason: settlement.reason }, call.sent);
  const detail = `Settlement failed (${settlement.reason}): the same payment may be sent again, without another run of the API`;
  const error = new AppError('settlement_failed', detail);
  sendPaymentRequired(response, call.offer(settlement.reason), error, call.requestId, header);
}

function unpaidError(reason: Extract<PaidAnswer, { kind: 'unpaid' }>['reason']): AppError {
  if (reason === 'insufficient_funds')
    return new AppError(
      'insufficient_funds',
      "The payer's balance does not cover the price beside its other payments that are not settled yet",
    );
  if (reason === 'payer_suspended') {
    return new AppError(
      'payer_suspended',
      'A payment of this payer could not be settled after the work was done: it may pay here again within the hour',
    );
  }
  if (reason === 'payment_expiring') {
    return new AppError(
      'payment_expiring',
      'The payment expires before one more attempt could end: sign a new one. Nothing was taken',
    );
  }
  if (reason === 'resource_mismatch') {
    return new AppError(
      'payment_invalid',
      'The payment names another resource than the path that it was sent to: sign the terms of this one',
    );
  }
  return new AppError('payment_invalid', `The payment does not satisfy the terms: ${reason}`);
}
