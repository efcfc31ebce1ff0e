import { setTimeout as sleep } from 'node:timers/promises';
import { addSeconds } from '../kernel/clock.ts';
import { limits } from '../kernel/limits.ts';
import { reopenPayment } from './claims.ts';
import type { Payment } from './payment.ts';
import { findAbandoned, sweepStoredResponses } from './payments.sql.ts';
import { listRelayers, resendMissing } from './relayers.ts';
import { type BatchDeps, recordBatch, watchBatch } from './settle-batch.ts';
import { type Conclusion, findSettlements, takeUnwatched } from './settlements.sql.ts';

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

/** A payment that somebody in this process waits for. */
interface Waiting {
  payment: Payment;
  /** Until when whoever asked waits for the chain's word. */
  deadline: Date;
  /** By `performance.now()`. */
  sinceMs: number;
  settlement: Promise<Settlement>;
  resolve(settlement: Settlement): void;
}

/** A request that has stored an answer settles it at once; one that hasn't after this long is gone. */
const respondedGraceSeconds = 5;
const resumedMax = 200;
/** What was taken up gets this long in one round, so that the next round comes soon whatever hangs. */
const resumeSeconds = 5;
/** While so many of this process's batches are on their way, payments gather for the next. */
const batchesBeforeGathering = 1;
/** Beyond so many they wait, however long: nodes hold no more of one account's transactions for sure. */
const batchesInFlightMax = 16;
/** Gathering lasts no longer than this, or a tenth of what a transaction takes: a block that is missed costs more than gas. */
const gatherMsMin = 100;
const firstPollMs = 25;
const slowestPollMs = 250;

/**
 * A lane of batches over one chain: while some are on their way, payments gather for the next, so that a batch is as
 * large as the load makes it, and a single payment doesn't wait. Any number of processes may each have one.
 */
export function createSettler(deps: BatchDeps): Settler {
  /** All that this process waits for. A payment that is asked for twice is settled once. */
  const open = new Map<string, Waiting>();
  const gathering: Waiting[] = [];
  const elsewhere = new Set<Waiting>();
  let preparing = false;
  let inFlight = 0;
  /** How long the chain takes for a transaction, as a moving average. */
  let inclusionMs = 0;
  let gatherTimer: NodeJS.Timeout | undefined;
  let polling = false;

  function tell(told: readonly Conclusion[]): void {
    for (const conclusion of told) {
      const settlement = settlementOf(conclusion);
      if (settlement) open.get(conclusion.payment.id)?.resolve(settlement);
    }
  }

  function pump(): void {
    const [oldest] = gathering;
    if (preparing || !oldest || inFlight >= batchesInFlightMax) return;
    if (inFlight >= batchesBeforeGathering && gathering.length < limits.batchItems) {
      const restMs = Math.max(gatherMsMin, inclusionMs / 10) - (performance.now() - oldest.sinceMs);
      if (restMs > 0) {
        gatherTimer ??= setTimeout(() => {
          gatherTimer = undefined;
          pump();
        }, restMs);
        return;
      }
    }
    void run(gathering.splice(0, limits.batchItems));
  }

  async function run(batch: readonly Waiting[]): Promise<void> {
    preparing = true;
    inFlight += 1;
    try {
      const payments = batch.map(({ payment }) => payment);
      await settleBatch(payments, () => {
        preparing = false;
        pump();
      });
      // Another process has these: their rows have the word.
      for (const one of batch) if (open.has(one.payment.id)) elsewhere.add(one);
      if (elsewhere.size > 0 && !polling) void poll();
    } catch (error) {
      deps.report(error);
      for (const { resolve } of batch) resolve({ kind: 'pending' });
    }
    inFlight -= 1;
    pump();
  }

  /**
   * One batch from start to end. `prepared` is called once the next may be prepared. A batch that reverts as a whole is tried again
   * in halves, and at last alone, so that one payment can't keep the others from being settled.
   */
  async function settleBatch(payments: readonly Payment[], prepared: () => void): Promise<void> {
    const deadline = addSeconds(deps.context.clock.now(), limits.settlementMarginSeconds);
    const { recorded, told } = await recordBatch(deps, payments).finally(prepared);
    tell(told);
    if (!recorded) return;
    const sentAtMs = performance.now();
    const conclusions = await watchBatch(deps, recorded.transaction, deadline, recorded.payments);
    if (!conclusions) return;
    inclusionMs += (performance.now() - sentAtMs - inclusionMs) / 4;
    tell(conclusions);
    const again = conclusions.flatMap(({ payment, state }) => (state === 'responded' ? [payment] : []));
    // Alone it has had its turn: what keeps it may be gone when it is taken up again.
    if (payments.length === 1) return;
    const half = Math.ceil(again.length / 2);
    for (const part of [again.slice(0, half), again.slice(half)]) {
      if (part.length > 0) await settleBatch(part, () => undefined);
    }
  }

  /** Looks, for all at once, at payments that other processes have. */
  async function poll(): Promise<void> {
    polling = true;
    for (let pauseMs = firstPollMs; elsewhere.size > 0; pauseMs = Math.min(pauseMs * 1.5, slowestPollMs)) {
      try {
        const rows = await findSettlements(
          deps.context.db,
          [...elsewhere].map(({ payment }) => payment),
        );
        const settlements = new Map(rows.map((row) => [row.id, settlementOfRow(row)]));
        const now = deps.context.clock.now();
        for (const one of elsewhere) {
          const settlement = settlements.get(one.payment.id);
          if (settlement) one.resolve(settlement);
          else if (now >= one.deadline) one.resolve({ kind: 'pending' });
        }
      } catch (error) {
        deps.report(error);
        for (const one of elsewhere) one.resolve({ kind: 'pending' });
      }
      if (elsewhere.size > 0) await sleep(pauseMs);
    }
    polling = false;
  }

  function settle(payment: Payment): Promise<Settlement> {
    const known = open.get(payment.id);
    if (known) return known.settlement;
    const { promise, resolve } = Promise.withResolvers<Settlement>();
    const one: Waiting = {
      payment,
      deadline: addSeconds(deps.context.clock.now(), limits.settlementMarginSeconds),
      sinceMs: performance.now(),
      settlement: promise,
      resolve(settlement) {
        open.delete(payment.id);
        elsewhere.delete(one);
        resolve(settlement);
      },
    };
    open.set(payment.id, one);
    if (payment.state === 'settling') {
      // An item of a transaction already; whoever watches that has the word.
      elsewhere.add(one);
      if (!polling) void poll();
      return promise;
    }
    gathering.push(one);
    // At the end of this turn of the event loop, so that all who ask in it go together.
    setImmediate(pump);
    return promise;
  }

  return { settle, resume: () => resume(deps, settle, tell) };
}

function settlementOf(conclusion: Conclusion): Settlement | undefined {
  if (conclusion.state === 'settled') return { kind: 'settled', transaction: conclusion.transaction };
  if (conclusion.state === 'settlement_failed') return { kind: 'failed', reason: conclusion.failure };
  return undefined;
}

function settlementOfRow(row: Pick<Payment, 'failure' | 'state' | 'transaction'>): Settlement | undefined {
  if (row.state === 'settled') return { kind: 'settled', transaction: row.transaction ?? '' };
  if (row.state === 'settlement_failed')
    return { kind: 'failed', reason: row.failure ?? 'settlement failed' };
  return undefined;
}

async function resume(
  deps: BatchDeps,
  settle: (payment: Payment) => Promise<Settlement>,
  tell: (told: readonly Conclusion[]) => void,
): Promise<number> {
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
    ...unwatched.map(async (transaction) => tell((await watchBatch(deps, transaction, deadline)) ?? [])),
    ...abandoned.map((payment) => takeUp(deps, payment, settle)),
  ];
  await Promise.all(
    tasks.map((task) =>
      Promise.race([task.catch(deps.report), sleep(resumeSeconds * 1000, undefined, { ref: false })]),
    ),
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
