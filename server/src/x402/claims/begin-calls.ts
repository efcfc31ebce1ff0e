import { type Sql } from '../../db/index.ts';
import { assert } from '../../kernel/assert.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { beginAttempts } from './attempts.sql.ts';
import { findClaimed, insertClaims } from './claims.sql.ts';
import { lockPayers, sumClaimed, sumOwed } from './payer-sums.sql.ts';
import { countClaims, lockUsage } from '../facilitator/facilitator-quota.sql.ts';
import { isCreditPayment } from '../credits/credit-payment.ts';
import type { Payment, SettlementMode } from '../payments/payment.ts';
import { type Ask, type OwedLimits, payerName, planClaims } from './plan-claims.ts';
import { attemptLeaseSeconds } from './stored-response.ts';
import type { ClaimJob, Job, Result, RetryJob } from './lane-jobs.ts';

/** A claim or retry that may go on, with its payment in the mode that was decided. */
export interface Planned<Kind extends ClaimJob | RetryJob = ClaimJob | RetryJob> {
  job: Kind;
  payment: Payment;
}

/**
 * Claims and retries, of which it gives those that have begun: decided under the payers' locks, or where credits pay, by the
 * ledger. A step on the way has no audit event; its outcome has.
 */
export async function runBegins(
  sql: Sql,
  jobs: readonly (ClaimJob | RetryJob)[],
  results: Map<Job, Result>,
  owedMax: OwedLimits,
  now: Date,
): Promise<Planned[]> {
  const inCredits = jobs.filter(({ payment }) => isCreditPayment(payment));
  const others = jobs.filter(({ payment }) => !isCreditPayment(payment));
  const planned = [
    ...(others.length === 0 ? [] : await plan(sql, others, results, owedMax, now)),
    // Money that is reserved is as good as settled, and is given back at no cost: no other mode is needed.
    ...inCredits.map((job) => ({ job, payment: inMode(job.payment, 'after_success') })),
  ];
  const begun = await Promise.all([
    insertPlanned(sql, planned, results, now),
    retryPlanned(sql, planned, results, now),
  ]);
  return begun.flat();
}

async function insertPlanned(
  sql: Sql,
  planned: readonly Planned[],
  results: Map<Job, Result>,
  now: Date,
): Promise<Planned[]> {
  const claims = planned.flatMap(({ job, payment }) =>
    job.kind === 'claim'
      ? {
          job,
          payment: leasedFrom(payment, now),
          fingerprint: job.fingerprint,
          fundsBlock: job.balance?.block,
        }
      : [],
  );
  if (claims.length === 0) return [];
  const inserted = await insertClaims(sql, claims, now);
  for (const { job, payment } of claims) results.set(job, inserted.has(payment.id) ? payment : undefined);
  const made = claims.filter(({ payment }) => inserted.has(payment.id));
  const counted = countedOf(made.map(({ job }) => job));
  if (counted.length > 0) await countClaims(sql, counted, now);
  return made;
}

/** The environments whose quota these take from, once for each that does. */
function countedOf(jobs: readonly (ClaimJob | RetryJob)[]): string[] {
  return jobs.flatMap((job) =>
    job.kind === 'claim' && job.perDay !== undefined ? job.payment.environmentId : [],
  );
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
    retries.map(({ job, payment }) => ({ payment, fundsBlock: job.balance?.block })),
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
  const counted = countedOf(jobs);
  // Sent together: each statement sees what was committed before the locks were had.
  const [usage, payers, known, claimed, owed] = await Promise.all([
    counted.length === 0 ? undefined : lockUsage(sql, counted, now),
    lockPayers(sql, payments),
    findClaimed(sql, payments),
    sumClaimed(
      sql,
      jobs.map(({ payment, balance }) => ({
        payment,
        balanceReadAt: balance?.readAt ?? now,
        balanceBlock: balance?.block,
      })),
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
          hosted: job.hosted,
          quota: quotaOf(job, usage),
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

function quotaOf(job: ClaimJob | RetryJob, usage: ReadonlyMap<string, number> | undefined): Ask['quota'] {
  if (job.kind === 'retry' || job.perDay === undefined) return undefined;
  const { environmentId } = job.payment;
  return { environmentId, left: job.perDay - (usage?.get(environmentId) ?? 0) };
}

/** What is settled first has no attempt yet. */
function inMode(payment: Payment, mode: SettlementMode): Payment {
  if (mode !== 'upfront') return { ...payment, mode };
  // What the facilitator settles is delivered by somebody else: no answer is owed here, and nothing is to be refunded.
  const delivery = payment.serverId === null ? null : 'owed';
  return { ...payment, mode, state: 'responded', attempt: 0, leaseUntil: null, delivery };
}
