import type { AuditEvent, Sql } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { type SecretBox } from '../../kernel/crypto.ts';
import { limits } from '../../kernel/limits.ts';
import { endAttempts, type EndedAttempt } from './attempts.sql.ts';
import { tellCharged } from '../credits/credit-transfers.ts';
import { isCreditPayment, transferKey } from '../credits/credit-payment.ts';
import type { Payment } from '../payments/payment.ts';
import { attemptLeaseSeconds, sealResponse } from './stored-response.ts';
import type { AttemptEnd, EndJob, Job, Result } from './lane-jobs.ts';

/** Gives the jobs whose attempts have ended. */
export async function runEnds(
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
      ...deliveryOf(end, now),
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

/** A stream is its attempt's until its client has its head, or it is given up: meanwhile no other may run the upstream. */
function deliveryOf({ kind }: AttemptEnd, now: Date): Pick<EndedAttempt, 'delivery' | 'leaseUntil'> {
  if (kind !== 'streaming') return { delivery: null, leaseUntil: null };
  return { delivery: 'running', leaseUntil: addSeconds(now, attemptLeaseSeconds) };
}

/** What credits pay for is settled by the transaction that ends its attempt. */
function outcomeOf(payment: Payment, { kind }: AttemptEnd): Pick<EndedAttempt, 'state' | 'transaction'> {
  if (kind === 'failed') return { state: 'open', transaction: null };
  if (!isCreditPayment(payment)) return { state: 'responded', transaction: null };
  return { state: 'settled', transaction: transferKey(payment) };
}

/** An attempt that failed has an audit event, and one that credits were charged for; of others, their settlement has it. */
export function tellEnded(ended: readonly EndJob[]): AuditEvent[] {
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
  return [...charged, ...failed];
}
