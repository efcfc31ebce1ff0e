import { createLane, type Database, type Origin, type Transaction, writeBatch } from '../../db/index.ts';
import type { Book } from '../../ledger/index.ts';
import { assert } from '../../kernel/assert.ts';
import { addSeconds, type Clock } from '../../kernel/clock.ts';
import { type SecretBox, sha256 } from '../../kernel/crypto.ts';
import { newId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { type CreditMoves, moveCredits, openCreditBook } from '../credits/credit-transfers.ts';
import { isCreditPayment } from '../credits/credit-payment.ts';
import type { Payment } from '../payments/payment.ts';
import { findClaim } from '../payments/payments.sql.ts';
import { type ClaimRefusal, type KnownBalance, type OwedLimits } from './plan-claims.ts';
import { attemptLeaseSeconds } from './stored-response.ts';
import {
  type AttemptEnd,
  authorisationName,
  type Claimed,
  type ClaimJob,
  type EndJob,
  isSameAsk,
  type Job,
  type NewClaim,
  type Result,
  type RetryJob,
} from './lane-jobs.ts';
import { runBegins } from './begin-calls.ts';
import { runEnds, tellEnded } from './end-calls.ts';

/**
 * The writes of paid calls, gathered over concurrent calls into transactions, of which each rail has two under way at most. Each resolves
 * when it is durable, and is decided as if it had come alone: within a batch in the order of arrival, while a later batch that waits for
 * no lock of an earlier one may commit before it.
 */
export interface PaymentLane {
  /**
   * Claims a payment for one request, with its first upstream attempt, before anything else happens. Refused where the payer's
   * balance doesn't cover it beside the payer's other unsettled payments: a payer with one cent gets one upstream run, however many
   * nonces it signs.
   */
  claim(claim: NewClaim, origin: Origin): Promise<Claimed>;
  /** Takes over a payment whose upstream failed, or whose process is gone. Nothing where somebody else was faster. */
  retry(
    payment: Payment,
    balance: KnownBalance | undefined,
    origin: Origin,
    hosted?: boolean,
  ): Promise<Payment | ClaimRefusal | undefined>;
  /** Ends an attempt. False where it was given up meanwhile: then the payment isn't this call's to charge. */
  end(payment: Payment, end: AttemptEnd, origin: Origin): Promise<boolean>;
  stop(): Promise<void>;
}

/** @param deps.owedMax how much may be owed by payments that are answered before they are settled. */
export function createPaymentLane(deps: LaneDeps): PaymentLane {
  const { db, clock } = deps;
  const createOne = (intervalMs: number) =>
    createLane<Job, Result>({
      batchMax: limits.paymentBatch,
      size: { of: answerBytes, max: limits.paymentBatchBytes },
      intervalMs,
      underWayMax: 2,
      run: (jobs) => writeBatch({ db, clock }, (sql, now) => runJobs(deps, sql, jobs, now)),
    });
  // One for each rail: they decide on other rows, and wait for other locks.
  const [credits, exact] = [createOne(limits.creditBatchMs), createOne(limits.paymentBatchMs)];
  const submit = (job: Job) => (isCreditPayment(job.payment) ? credits : exact).submit(job);

  /** Batch by batch, until one has decided on this very job, or on its like. */
  async function decide(job: ClaimJob | RetryJob): Promise<Exclude<Result, 'undecided'>> {
    for (;;) {
      const result = await submit(job);
      if (result !== 'undecided') return result;
    }
  }

  /** No payment is refused by a balance that isn't the present one. */
  async function begin(job: ClaimJob | RetryJob): ReturnType<typeof decide> {
    const result = await decide(job);
    if (result !== 'insufficient_funds') return result;
    const balance = await job.balance?.renew?.();
    return balance ? decide({ ...job, balance }) : result;
  }

  return {
    async claim(claim, origin) {
      const payment = newPayment(claim, clock.now());
      const result = await begin({ kind: 'claim', ...origin, ...claim, payment });
      if (typeof result === 'string') return { kind: 'refused', reason: result };
      if (typeof result === 'object') return { kind: 'claimed', payment: result };
      const known = await findClaim(db, claim.facts);
      assert(known, 'a claim has a payment');
      return { kind: 'known', claim: known };
    },
    async retry(payment, balance, origin, hosted = false) {
      const result = await begin({ kind: 'retry', ...origin, payment, balance, hosted });
      return typeof result === 'boolean' ? undefined : result;
    },
    end: async (payment, end, origin) => (await submit({ kind: 'end', ...origin, payment, end })) === true,
    async stop() {
      await Promise.all([credits.stop(), exact.stop()]);
    },
  };
}

function answerBytes(job: Job): number {
  return job.kind === 'end' && job.end.kind === 'responded' ? job.end.response.body.length : 0;
}

interface LaneDeps {
  db: Database;
  clock: Clock;
  box: SecretBox;
  owedMax: OwedLimits;
}

async function runJobs({ box, owedMax }: LaneDeps, sql: Transaction, jobs: readonly Job[], now: Date) {
  const results = new Map<Job, Result>();
  const begins = jobs.filter((job) => job.kind !== 'end');
  // Copies of one authorisation ask for its money once: the first stands for all, and the others find what became of it. A refusal is
  // theirs only if they ask for the same.
  const firsts = new Map(begins.toReversed().map((job) => [authorisationName(job), job]));
  const beginning = begins.filter((job) => firsts.get(authorisationName(job)) === job);
  const ending = jobs.filter((job) => job.kind === 'end');
  // None needs another's rows: they go out together.
  const [begun, ended, book] = await Promise.all([
    runBegins(sql, beginning, results, owedMax, now),
    runEnds(box, sql, ending, results, now),
    openBookOf(sql, beginning, ending),
  ]);
  // Last, and once: what is locked in the ledger is locked for everybody else.
  const refused = await moveCredits(sql, creditMoves(begun, ended), now, book);
  for (const { job, payment } of begun) if (refused.has(payment.id)) results.set(job, 'insufficient_funds');
  for (const job of begins) {
    const first = firsts.get(authorisationName(job));
    const result = first && results.get(first);
    if (first && typeof result === 'string') results.set(job, isSameAsk(first, job) ? result : 'undecided');
  }
  return { result: jobs.map((job) => results.get(job)), audits: tellEnded(ended) };
}

function creditMoves(
  begun: readonly { payment: Payment }[],
  ended: readonly { payment: Payment; end: AttemptEnd }[],
): CreditMoves {
  return {
    begun: begun.flatMap(({ payment }) => (isCreditPayment(payment) ? payment : [])),
    ended: ended.flatMap(({ payment, end: { kind } }) =>
      isCreditPayment(payment) ? { payment, charged: kind !== 'failed' } : [],
    ),
  };
}

/** What may be asked of the ledger. Nothing where that isn't known yet: which attempt a retry is, its row says. */
async function openBookOf(
  sql: Transaction,
  beginning: readonly (ClaimJob | RetryJob)[],
  ending: readonly EndJob[],
): Promise<Book | undefined> {
  const moves = creditMoves(beginning, ending);
  const isKnown = beginning.every(({ kind }) => kind === 'claim');
  return isKnown && moves.begun.length + moves.ended.length > 0 ? openCreditBook(sql, moves) : undefined;
}

function newPayment({ facts, presenter, target, mode }: NewClaim, now: Date): Payment {
  const { agentId, agentVerified, clientAddress, termsSecret } = presenter;
  return {
    ...facts,
    ...target,
    id: newId('payment'),
    mode,
    agentId,
    agentVerified,
    clientAddress,
    termsSecretHash: termsSecret === null ? null : sha256(termsSecret),
    state: 'forwarding',
    attempt: 1,
    leaseUntil: addSeconds(now, attemptLeaseSeconds),
    delivery: null,
    replayable: true,
    transaction: null,
    failure: null,
    refundOf: null,
    createdAt: now,
    settledAt: null,
  };
}
