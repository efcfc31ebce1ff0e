import {
  type BatchOutcome,
  createLane,
  type Database,
  type Origin,
  type Sql,
  writeBatch,
} from '../../db/index.ts';
import { assert } from '../../kernel/assert.ts';
import { addSeconds, type Clock } from '../../kernel/clock.ts';
import { type SecretBox, sha256 } from '../../kernel/crypto.ts';
import { newId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import {
  beginAttempts,
  endAttempts,
  type EndedAttempt,
  findClaimed,
  insertClaims,
  lockPayers,
  sumClaimed,
  sumOwed,
} from './claims.sql.ts';
import { countClaims } from '../facilitator/facilitator-quota.sql.ts';
import { moveCredits, tellCharged } from '../credits/credit-transfers.ts';
import { isCreditPayment, transferKey } from '../credits/credit-payment.ts';
import type {
  Payment,
  PaymentFacts,
  PaymentTarget,
  SettlementMode,
  StoredResponse,
} from '../payments/payment.ts';
import { type Claim, findClaim } from '../payments/payments.sql.ts';
import {
  type ClaimRefusal,
  type KnownBalance,
  type OwedLimits,
  payerName,
  planClaims,
} from './plan-claims.ts';
import { attemptLeaseSeconds, sealResponse } from './stored-response.ts';

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

/**
 * The writes of paid calls, gathered over concurrent calls into one transaction at a time. Each resolves when it is durable, and
 * is decided as if it had come alone, in the order of arrival.
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
  ): Promise<Payment | ClaimRefusal | undefined>;
  /** Ends an attempt. False where it was given up meanwhile: then the payment isn't this call's to charge. */
  end(payment: Payment, end: AttemptEnd, origin: Origin): Promise<boolean>;
  stop(): Promise<void>;
}

interface ClaimJob extends Origin, NewClaim {
  kind: 'claim';
  payment: Payment;
}
interface RetryJob extends Origin {
  kind: 'retry';
  payment: Payment;
  balance: KnownBalance | undefined;
}
interface EndJob extends Origin {
  kind: 'end';
  payment: Payment;
  end: AttemptEnd;
}
type Job = ClaimJob | EndJob | RetryJob;

/** What became of a job: a claimed or taken payment, whether an attempt ended, or why not. */
type Result = Payment | ClaimRefusal | boolean | undefined;

/** @param deps.owedMax how much may be owed by payments that are answered before they are settled. */
export function createPaymentLane(deps: LaneDeps): PaymentLane {
  const { db, clock } = deps;
  const lane = createLane<Job, Result>({
    batchMax: limits.paymentBatch,
    size: { of: answerBytes, max: limits.paymentBatchBytes },
    intervalMs: limits.paymentBatchMs,
    run: (jobs) => writeBatch({ db, clock }, (sql, now) => runJobs(deps, sql, jobs, now)),
  });

  return {
    async claim(claim, origin) {
      const payment = newPayment(claim, clock.now());
      const result = await lane.submit({ kind: 'claim', ...origin, ...claim, payment });
      if (typeof result === 'string') return { kind: 'refused', reason: result };
      if (typeof result === 'object') return { kind: 'claimed', payment: result };
      const known = await findClaim(db, claim.facts);
      assert(known, 'a claim has a payment');
      return { kind: 'known', claim: known };
    },
    async retry(payment, balance, origin) {
      const result = await lane.submit({ kind: 'retry', ...origin, payment, balance });
      return typeof result === 'boolean' ? undefined : result;
    },
    end: async (payment, end, origin) =>
      (await lane.submit({ kind: 'end', ...origin, payment, end })) === true,
    stop: () => lane.stop(),
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

async function runJobs({ box, owedMax }: LaneDeps, sql: Sql, jobs: readonly Job[], now: Date) {
  const results = new Map<Job, Result>();
  const begins = jobs.filter((job) => job.kind !== 'end');
  // Copies of one authorisation ask for its money once: the first stands for all, and the others find what became of it.
  const firsts = new Map(begins.toReversed().map((job) => [authorisationName(job), job]));
  const begun = await runBegins(
    sql,
    begins.filter((job) => firsts.get(authorisationName(job)) === job),
    results,
    owedMax,
    now,
  );
  const ends = jobs.filter((job) => job.kind === 'end');
  const ended = await runEnds(box, sql, ends, results, now);
  // Last, and once: what is locked in the ledger is locked for everybody else.
  const refused = await moveCredits(
    sql,
    {
      begun: begun.flatMap(({ payment }) => (isCreditPayment(payment) ? payment : [])),
      ended: ended.flatMap(({ payment, end: { kind } }) =>
        isCreditPayment(payment) ? { payment, charged: kind !== 'failed' } : [],
      ),
    },
    now,
  );
  for (const { job, payment } of begun) if (refused.has(payment.id)) results.set(job, 'insufficient_funds');
  for (const job of begins) {
    const first = firsts.get(authorisationName(job));
    const result = first && results.get(first);
    if (typeof result === 'string') results.set(job, result);
  }
  return { result: jobs.map((job) => results.get(job)), ...tellEnded(ended) };
}

function authorisationName({ payment }: ClaimJob | RetryJob): string {
  return `${payerName(payment)} ${payment.nonce}`;
}

/** A claim or retry that may go on, with its payment in the mode that was decided. */
interface Planned<Kind extends ClaimJob | RetryJob = ClaimJob | RetryJob> {
  job: Kind;
  payment: Payment;
}

/**
 * Claims and retries, of which it gives those that have begun: decided under the payers' locks, or where credits pay, by the
 * ledger. A step on the way has no audit event; its outcome has.
 */
async function runBegins(
  sql: Sql,
  jobs: readonly (ClaimJob | RetryJob)[],
  results: Map<Job, Result>,
  owedMax: OwedLimits,
  now: Date,
): Promise<Planned[]> {
  const inCredits = jobs.filter(({ payment }) => isCreditPayment(payment));
  const others = jobs.filter(({ payment }) => !isCreditPayment(payment));
  const planned = [
    ...(others.length === 0
      ? []
      : await withinQuota(sql, await plan(sql, others, results, owedMax, now), results, now)),
    // Money that is reserved is as good as settled, and is given back at no cost: no other mode is needed.
    ...inCredits.map((job) => ({ job, payment: inMode(job.payment, 'after_success') })),
  ];
  const inserted = await insertPlanned(sql, planned, results, now);
  return [...inserted, ...(await retryPlanned(sql, planned, results, now))];
}

async function insertPlanned(
  sql: Sql,
  planned: readonly Planned[],
  results: Map<Job, Result>,
  now: Date,
): Promise<Planned[]> {
  const claims = planned.flatMap(({ job, payment }) =>
    job.kind === 'claim' ? { job, payment: leasedFrom(payment, now), fingerprint: job.fingerprint } : [],
  );
  if (claims.length === 0) return [];
  const inserted = await insertClaims(sql, claims, now);
  for (const { job, payment } of claims) results.set(job, inserted.has(payment.id) ? payment : undefined);
  return claims.filter(({ payment }) => inserted.has(payment.id));
}

/** An attempt begins when it is written: what the claim has waited for that isn't taken from the upstream's time. */
function leasedFrom(payment: Payment, now: Date): Payment {
  return payment.leaseUntil === null
    ? payment
    : { ...payment, leaseUntil: addSeconds(now, attemptLeaseSeconds) };
}

async function retryPlanned(
  sql: Sql,
  planned: readonly Planned[],
  results: Map<Job, Result>,
  now: Date,
): Promise<Planned[]> {
  const retries = planned.filter(({ job }) => job.kind === 'retry');
  if (retries.length === 0) return [];
  const begun = await beginAttempts(
    sql,
    retries.map(({ payment }) => payment),
    addSeconds(now, attemptLeaseSeconds),
    now,
  );
  const byId = new Map(begun.map((payment) => [payment.id, payment]));
  return retries.flatMap(({ job, payment: { id } }) => {
    const payment = byId.get(id);
    results.set(job, payment);
    return payment ? { job, payment } : [];
  });
}

/** Gives the jobs that may go on, and writes the others' results down. */
async function plan(
  sql: Sql,
  jobs: readonly (ClaimJob | RetryJob)[],
  results: Map<Job, Result>,
  owedMax: OwedLimits,
  now: Date,
): Promise<Planned[]> {
  const payments = jobs.map(({ payment }) => payment);
  const optimistic = payments.filter(({ mode }) => mode === 'optimistic');
  // Sent together: each statement sees what was committed before the locks were had.
  const [payers, known, claimed, owed] = await Promise.all([
    lockPayers(sql, payments),
    findClaimed(sql, payments),
    sumClaimed(
      sql,
      jobs.map(({ payment, balance }) => ({ payment, balanceReadAt: balance?.readAt ?? now })),
    ),
    optimistic.length === 0
      ? undefined
      : sumOwed(
          sql,
          optimistic.flatMap(({ serverId }) => serverId ?? []),
          optimistic,
        ),
  ]);
  const suspensions = new Map(payers.map((payer) => [payerName(payer), payer.suspendedUntil]));
  const asks = jobs.flatMap((job, place) =>
    job.kind === 'claim' && known.has(place)
      ? []
      : {
          job,
          payment: job.payment,
          balance: job.balance,
          claimed: claimed[place] ?? 0n,
          suspendedUntil: suspensions.get(payerName(job.payment)) ?? null,
          hosted: job.kind === 'claim' && job.hosted,
        },
  );
  const verdicts = planClaims(asks, owed, owedMax, now);
  return asks.flatMap(({ job, payment }, index) => {
    const verdict = verdicts[index];
    assert(verdict, 'each ask has a verdict');
    if ('mode' in verdict) return { job, payment: inMode(payment, verdict.mode) };
    results.set(job, verdict.refusal);
    return [];
  });
}

/** Takes out what is beyond a quota, and writes that down. */
async function withinQuota(
  sql: Sql,
  planned: readonly Planned[],
  results: Map<Job, Result>,
  now: Date,
): Promise<readonly Planned[]> {
  const counted = planned.flatMap(({ job, payment }) =>
    job.kind === 'claim' && job.perDay !== undefined ? { payment, perDay: job.perDay } : [],
  );
  if (counted.length === 0) return planned;
  const beyond = await countClaims(sql, counted, now);
  for (const { job, payment } of planned) if (beyond.has(payment.id)) results.set(job, 'quota_exceeded');
  return planned.filter(({ payment }) => !beyond.has(payment.id));
}

/** What is settled first has no attempt yet. */
function inMode(payment: Payment, mode: SettlementMode): Payment {
  if (mode !== 'upfront') return { ...payment, mode };
  // What the facilitator settles is delivered by somebody else: no answer is owed here, and nothing is to be refunded.
  const delivery = payment.serverId === null ? null : 'owed';
  return { ...payment, mode, state: 'responded', attempt: 0, leaseUntil: null, delivery };
}

/** Gives the jobs whose attempts have ended. */
async function runEnds(
  box: SecretBox,
  sql: Sql,
  jobs: readonly EndJob[],
  results: Map<Job, Result>,
  now: Date,
): Promise<EndJob[]> {
  if (jobs.length === 0) return [];
  const ended = await endAttempts(
    sql,
    jobs.map(({ payment, end }) => ({
      payment,
      ...outcomeOf(payment, end),
      ...deliveryOf(payment, end, now),
      failure: end.kind === 'failed' ? end.failure : null,
      replayable: end.kind !== 'streaming',
      stored: end.kind === 'responded' ? sealResponse(box, payment, end.response) : null,
    })),
    now,
    addSeconds(now, limits.storedResponseSeconds),
  );
  const firsts = new Map(jobs.toReversed().map((job) => [job.payment.id, job]));
  const told = jobs.filter((job) => ended.has(job.payment.id) && firsts.get(job.payment.id) === job);
  for (const job of told) results.set(job, true);
  return told;
}

/** A stream is its attempt's until it is let go or given up: meanwhile no other may run the upstream. */
function deliveryOf(
  { mode }: Payment,
  { kind }: AttemptEnd,
  now: Date,
): Pick<EndedAttempt, 'delivery' | 'leaseUntil'> {
  if (kind !== 'streaming' || mode === 'optimistic') return { delivery: null, leaseUntil: null };
  return { delivery: 'running', leaseUntil: addSeconds(now, attemptLeaseSeconds) };
}

/** What credits pay for is settled by the transaction that ends its attempt. */
function outcomeOf(payment: Payment, { kind }: AttemptEnd): Pick<EndedAttempt, 'state' | 'transaction'> {
  if (kind === 'failed') return { state: 'open', transaction: null };
  if (!isCreditPayment(payment)) return { state: 'responded', transaction: null };
  return { state: 'settled', transaction: transferKey(payment) };
}

/** An attempt that failed has an audit event, and one that credits were charged for; of others, their settlement has it. */
function tellEnded(ended: readonly EndJob[]): Required<Pick<BatchOutcome<never>, 'audits' | 'outbox'>> {
  const charged = ended.flatMap((job) =>
    job.end.kind !== 'failed' && isCreditPayment(job.payment) ? tellCharged(job.payment, job) : [],
  );
  const failed = ended.flatMap(({ payment, end, actor, requestId, clientAddress }) =>
    end.kind === 'failed'
      ? {
          actor,
          requestId,
          clientAddress,
          scope: payment.environmentId,
          action: 'payment.upstream_failed',
          resource: payment.id,
          data: { failure: end.failure },
        }
      : [],
  );
  return {
    audits: [...charged.map(({ audit }) => audit), ...failed],
    outbox: charged.map(({ outbox }) => outbox),
  };
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
