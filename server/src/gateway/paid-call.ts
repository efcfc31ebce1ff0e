import { setTimeout as sleep } from 'node:timers/promises';
import type { WriteContext } from '../db/index.ts';
import { addSeconds, unixSeconds } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';
import {
  type Chain,
  ChainUnavailableError,
  type Claim,
  type ClaimRefusal,
  claimPayment,
  findClaim,
  findStoredResponse,
  findTermsFault,
  hasLiveLease,
  isForSameRequest,
  isSignedByPayer,
  type KnownBalance,
  mayFetch,
  type Payment,
  type PaymentFault,
  type Presenter,
  type ReceivedPayment,
  reopenPayment,
  retryAttempt,
  type Settlement,
  type Settler,
  type StoredResponse,
  storeResponse,
  type Terms,
} from '../x402/index.ts';
import type { UpstreamAnswer } from './call-upstream.ts';

export interface PaidCall {
  context: WriteContext;
  chain: Chain;
  settler: Settler;
  terms: Terms;
  sent: ReceivedPayment;
  presenter: Presenter;
  /** What this payment may buy, and nothing else: SHA-256 over method, path, query and body. */
  fingerprint: Buffer;
  target: Pick<Payment, 'endpointId' | 'environmentId' | 'serverId'>;
  /** Runs the upstream once. */
  callUpstream(): Promise<UpstreamAnswer>;
}

export type PaidAnswer =
  /** Paid and delivered. */
  | { kind: 'delivered'; response: StoredResponse; transaction: string }
  /** The upstream's own 4xx: passed on, uncharged. */
  | { kind: 'uncharged'; response: StoredResponse }
  /** The payment doesn't buy this; the terms are offered again. */
  | { kind: 'unpaid'; reason: ClaimRefusal | PaymentFault | 'payment_expiring' }
  | { kind: 'unsettled'; settlement: Exclude<Settlement, { kind: 'settled' }> }
  /** Somebody else's answer: 409, and not a word more. */
  | { kind: 'withheld' }
  | { kind: 'refused'; error: AppError };

/** One attempt with its settlement: a payment must be good for this long when it starts. */
const attemptSeconds = limits.upstreamTimeoutSeconds + limits.settlementMarginSeconds;
const pollMs = 25;

/**
 * Serves one priced call: verify, claim, forward, store, settle, answer (docs/life-of-a-paid-call.md). The claim is durable before the
 * upstream hears of the call, the answer before it is charged; a crash in between is taken up by a retry or a worker.
 */
export async function servePaidCall(call: PaidCall): Promise<PaidAnswer> {
  const claim = await findClaim(call.context.db, call.sent);
  if (claim) return serveKnown(call, claim);

  const fault = findPaymentFault(call);
  if (fault) return { kind: 'unpaid', reason: fault };
  const funds = await findFunds(call);
  if (typeof funds === 'string') return { kind: 'unpaid', reason: funds };
  const claimed = await claimPayment(call.context, { ...call, balance: funds });
  if (claimed.kind === 'refused') return { kind: 'unpaid', reason: claimed.reason };
  if (claimed.kind === 'known') return serveKnown(call, claimed.claim);
  return runAttempt(call, claimed.payment);
}

/** A payment that was presented before: by a retry, a second connection, or somebody who has read it on the chain. */
async function serveKnown(call: PaidCall, first: Claim): Promise<PaidAnswer> {
  const { context, presenter } = call;
  if (!isForSameRequest(first, call.sent, call.fingerprint)) {
    return refuse(
      'payment_already_used',
      'This payment was made for another request; sign a new one for this',
    );
  }
  const deadline = addSeconds(context.clock.now(), attemptSeconds);
  for (let claim: Claim | undefined = first; claim; claim = await findClaim(context.db, call.sent)) {
    const { payment } = claim;
    const now = context.clock.now();
    if (payment.state !== 'open' && !mayFetch(payment, presenter, now)) return { kind: 'withheld' };

    if (payment.state === 'settled') return deliver(call, payment, payment.transaction ?? '');
    if (payment.state === 'open' || (payment.state === 'forwarding' && !hasLiveLease(payment, now))) {
      const answer = await retry(call, payment);
      if (answer) return answer;
    } else if (payment.state !== 'forwarding') {
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
  const now = call.context.clock.now();
  if (payment.validBefore < BigInt(unixSeconds(now) + attemptSeconds))
    return { kind: 'unpaid', reason: 'payment_expiring' };
  const funds = await findFunds(call);
  if (typeof funds === 'string') return { kind: 'unpaid', reason: funds };
  const taken = await retryAttempt(call.context, payment, funds);
  if (typeof taken === 'string') return { kind: 'unpaid', reason: taken };
  return taken ? runAttempt(call, taken) : undefined;
}

async function runAttempt(call: PaidCall, payment: Payment): Promise<PaidAnswer> {
  const answer = await call.callUpstream();
  if (answer.kind === 'failed') {
    await reopenPayment(call.context, payment, answer.reason);
    return refuse(
      'upstream_failed',
      `Upstream request failed (${answer.reason}): no payment was taken, and the same payment may be tried again`,
    );
  }
  if (answer.kind === 'client_error') {
    await reopenPayment(call.context, payment, `status ${answer.response.status}`);
    return { kind: 'uncharged', response: answer.response };
  }
  if (answer.kind === 'stream') {
    answer.cancel();
    await reopenPayment(call.context, payment, 'too_large');
    return refuse('upstream_failed', 'The answer is a stream or too large: no payment was taken');
  }
  if (!(await storeResponse(call.context, payment, answer.response))) {
    // This process slept through its lease: the payment is another attempt's now.
    return refuse(
      'payment_in_flight',
      'The call was taken over by another attempt; ask again with the same payment',
    );
  }
  return settleAndDeliver(call, payment);
}

async function settleAndDeliver(call: PaidCall, payment: Payment): Promise<PaidAnswer> {
  const settlement = await call.settler.settle(payment);
  if (settlement.kind === 'settled') return deliver(call, payment, settlement.transaction);
  return { kind: 'unsettled', settlement };
}

async function deliver(call: PaidCall, payment: Payment, transaction: string): Promise<PaidAnswer> {
  const response = await findStoredResponse(call.context, payment);
  if (response) return { kind: 'delivered', response, transaction };
  return refuse(
    'payment_already_used',
    'This payment was used, and its answer is no longer kept; sign a new one',
  );
}

/** What the payment itself says against it. */
function findPaymentFault(call: PaidCall): PaymentFault | undefined {
  const now = BigInt(unixSeconds(call.context.clock.now()));
  const fault = findTermsFault(call.sent, call.terms, now, attemptSeconds);
  if (fault) return fault;
  return isSignedByPayer(call.terms.network, call.sent) ? undefined : 'invalid_exact_evm_payload_signature';
}

/** The payer's balance, as it was after this moment at the earliest; or what the chain says against the payment. */
async function findFunds(call: PaidCall): Promise<KnownBalance | PaymentFault> {
  const readAt = call.context.clock.now();
  const { from, nonce, value } = call.sent.authorization;
  const { balance, nonceUsed, hasCode } = await askChain(call.chain.payerState(from, nonce));
  // The token would ask the account's code instead of its signature: contract wallets are refused for now.
  if (hasCode) return 'invalid_exact_evm_payload_signature';
  if (nonceUsed) return 'invalid_transaction_state';
  return balance < value ? 'insufficient_funds' : { atomic: balance, readAt };
}

/** A chain that can't be asked is our trouble and not the payment's: 503, and the payment is still good. */
async function askChain<T>(question: Promise<T>): Promise<T> {
  try {
    return await question;
  } catch (error) {
    if (!(error instanceof ChainUnavailableError)) throw error;
    throw new AppError(
      'unavailable',
      'The payment cannot be checked at the moment; try again with the same payment',
      { cause: error },
    );
  }
}

function refuse(code: AppError['code'], detail: string): PaidAnswer {
  return { kind: 'refused', error: new AppError(code, detail) };
}
