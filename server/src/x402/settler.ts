import { setTimeout as sleep } from 'node:timers/promises';
import { addSeconds } from '../kernel/clock.ts';
import { limits } from '../kernel/limits.ts';
import { reopenPayment } from './claims.ts';
import type { Payment } from './payment.ts';
import { findAbandoned, findPayment, sweepStoredResponses } from './payments.sql.ts';
import { listRelayers, resendMissing } from './relayers.ts';
import { type BatchDeps, recordBatch, watchBatch } from './settle-batch.ts';
import { takeUnwatched } from './settlements.sql.ts';

/** What became of a settlement, as far as it is known now. `pending` is never the last word. */
export type Settlement =
  | { kind: 'failed'; reason: string }
  | { kind: 'pending' }
  | { kind: 'settled'; transaction: string };

/** Settles what this process has delivered on one chain, and takes up what others have left. */
export interface Settler {
  /** Settles an answered payment, together with whatever else waits at this moment. Never rejects: what isn't known is pending. */
  settle(payment: Payment): Promise<Settlement>;
  /** Takes up what was left: attempts, answers and transactions of processes that are gone. Gives how many it took up. */
  resume(): Promise<number>;
}

interface Waiting {
  payment: Payment;
  /** Until when whoever asked waits for the chain's word. */
  deadline: Date;
  resolve(settlement: Settlement): void;
}

const pollMs = 25;
/** A request that has stored an answer settles it at once; one that hasn't after this long is gone. */
const respondedGraceSeconds = 5;
const resumedMax = 200;
/** What was taken up gets this long in one round, so that the next round comes soon whatever hangs. */
const resumeSeconds = 5;
/** Transactions of this process that the chain hasn't spoken on; beyond them payments wait, and batches grow. */
const batchesInFlightMax = 16;

/**
 * A lane of batches over one chain: while one batch is being prepared, payments gather for the next, so that a batch is as
 * large as the load makes it, and a single payment doesn't wait. Any number of processes may each have one.
 */
export function createSettler(deps: BatchDeps): Settler {
  const waiting: Waiting[] = [];
  /** A payment that is asked for twice in this process is settled once. */
  const running = new Map<string, Promise<Settlement>>();
  let preparing = false;
  let inFlight = 0;

  function pump(): void {
    if (preparing || waiting.length === 0 || inFlight >= batchesInFlightMax) return;
    preparing = true;
    inFlight += 1;
    const batch = waiting.splice(0, limits.batchItems);
    void settleBatch(
      deps,
      batch.map(({ payment }) => payment),
      () => {
        preparing = false;
        pump();
      },
    )
      .then(() => Promise.all(batch.map(async (one) => one.resolve(await readSettlement(deps, one)))))
      .catch((error: unknown) => {
        deps.report(error);
        // Whoever has its answer by now keeps it.
        for (const { resolve } of batch) resolve({ kind: 'pending' });
      })
      .finally(() => {
        inFlight -= 1;
        pump();
      });
  }

  function settle(payment: Payment): Promise<Settlement> {
    const known = running.get(payment.id);
    if (known) return known;
    const settlement = new Promise<Settlement>((resolve) => {
      const deadline = addSeconds(deps.context.clock.now(), limits.settlementMarginSeconds);
      waiting.push({ payment, deadline, resolve });
    }).finally(() => running.delete(payment.id));
    running.set(payment.id, settlement);
    // At the end of this turn of the event loop, so that all who ask in it go together.
    setImmediate(pump);
    return settlement;
  }

  return { settle, resume: () => resume(deps, settle) };
}

/**
 * One batch from start to end. `prepared` is called once the next may be prepared. A batch that reverts as a whole is tried again
 * in halves, and at last alone, so that one payment can't keep the others from being settled.
 */
async function settleBatch(
  deps: BatchDeps,
  payments: readonly Payment[],
  prepared: () => void,
): Promise<void> {
  const deadline = addSeconds(deps.context.clock.now(), limits.settlementMarginSeconds);
  const recorded = await recordBatch(deps, payments).finally(prepared);
  if (!recorded || !(await watchBatch(deps, recorded.transaction, deadline))) return;
  if (payments.length === 1) return;
  const states = await Promise.all(recorded.payments.map((payment) => findPayment(deps.context.db, payment)));
  const again = states.flatMap((payment) => (payment?.state === 'responded' ? [payment] : []));
  const half = Math.ceil(again.length / 2);
  for (const part of [again.slice(0, half), again.slice(half)]) {
    if (part.length > 0) await settleBatch(deps, part, () => undefined);
  }
}

/** The payment's own row has the word, whoever settled it. Waits while another process is at it. */
async function readSettlement({ context }: BatchDeps, { payment, deadline }: Waiting): Promise<Settlement> {
  for (;;) {
    const current = await findPayment(context.db, payment);
    if (current?.state === 'settled') return { kind: 'settled', transaction: current.transaction ?? '' };
    if (current?.state === 'settlement_failed') {
      return { kind: 'failed', reason: current.failure ?? 'settlement failed' };
    }
    if (context.clock.now() >= deadline) return { kind: 'pending' };
    await sleep(pollMs);
  }
}

async function resume(deps: BatchDeps, settle: (payment: Payment) => Promise<Settlement>): Promise<number> {
  const { context, chain } = deps;
  for (const relayer of await listRelayers(context.db, chain.network.id)) {
    await resendMissing(context.db, chain, relayer, deps.report);
  }
  const now = context.clock.now();
  const unwatched = await takeUnwatched(context.db, {
    network: chain.network.id,
    now,
    leaseUntil: addSeconds(now, resumeSeconds),
    limit: resumedMax,
  });
  const abandoned = await findAbandoned(context.db, now, addSeconds(now, -respondedGraceSeconds), resumedMax);
  const deadline = addSeconds(now, resumeSeconds);
  const tasks = [
    ...unwatched.map((transaction) => watchBatch(deps, transaction, deadline)),
    ...abandoned.map((payment) => takeUp(deps, payment, settle)),
  ];
  await Promise.all(
    tasks.map((task) => Promise.race([task.catch(deps.report), sleep(resumeSeconds * 1000)])),
  );
  await sweepStoredResponses(context.db, now);
  return tasks.length;
}

async function takeUp(
  { context, chain }: BatchDeps,
  payment: Payment,
  settle: (payment: Payment) => Promise<Settlement>,
): Promise<void> {
  if (payment.state === 'forwarding') {
    await reopenPayment({ ...context, scope: payment.environmentId }, payment, 'interrupted');
  } else if (payment.network === chain.network.id) {
    await settle(payment);
  }
}
