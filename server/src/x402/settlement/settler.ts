import { reach } from '#points';
import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import type { Payment } from '../payments/payment.ts';
import { createReorganisationWatch } from './reorganisations.ts';
import { type BatchDeps, recordBatch, watchBatch } from './settle-batch.ts';
import { createElsewhere } from './settled-elsewhere.ts';
import { type Settlement, settlementOf, type Waiting } from './settlement.ts';
import type { Conclusion } from './conclusions.sql.ts';
import { takeUp } from './take-up.ts';

/** Settles what this process has delivered on one chain, and takes up what others have left. */
export interface Settler {
  /**
   * Settles an answered payment, together with whatever else waits at this moment. Never rejects: what isn't known is pending.
   * @param verifiedAtMs when the chain said that it is good, by `performance.now()`: what was so a moment ago isn't asked again.
   */
  settle(payment: Payment, verifiedAtMs?: number): Promise<Settlement>;
  /**
   * Says that a payment is about to come, so that a batch may wait a moment for it. Gives what says that it has come, or won't; after a
   * quarter of a second it is counted on no more.
   */
  expect(): () => void;
  /** Takes up what was left: attempts, answers and transactions of processes that are gone. Gives how many it took up. */
  resume(): Promise<number>;
}

/**
 * Opens the settling of one chain. Who asks for a payment is told as soon as this process has concluded it; where another process has
 * it, its row has the word. Any number of processes may each have one.
 */
export function createSettler(given: BatchDeps): Settler {
  const deps: BatchDeps = { ...given, resting: new Map() };
  /** All that this process waits for. A payment that is asked for twice is settled once. */
  const open = new Map<string, Waiting>();
  const elsewhere = createElsewhere(deps);
  const watchReorganisations = createReorganisationWatch(deps);
  const isOpen = (one: Waiting) => open.get(one.payment.id) === one;
  const gathering = createGathering(deps, {
    tell,
    isOpen,
    ended(batch) {
      for (const one of batch) if (isOpen(one)) elsewhere.add(one);
    },
  });

  function tell(told: readonly Conclusion[]): void {
    for (const conclusion of told) {
      const settlement = settlementOf(conclusion);
      if (settlement) open.get(conclusion.payment.id)?.resolve(settlement);
    }
  }

  function settle(payment: Payment, verifiedAtMs?: number): Promise<Settlement> {
    const known = open.get(payment.id);
    if (known) return known.settlement;
    const { promise, resolve } = Promise.withResolvers<Settlement>();
    // Whatever its payment waits for: whoever asks goes no longer without a word than a stream's lease leaves room for.
    const timer = setTimeout(() => {
      gathering.leave(one);
      one.resolve({ kind: 'pending' });
    }, limits.settlementMarginSeconds * 1000);
    const one: Waiting = {
      payment,
      deadline: addSeconds(deps.context.clock.now(), limits.settlementMarginSeconds),
      sinceMs: performance.now(),
      verifiedAtMs,
      settlement: promise,
      resolve(settlement) {
        clearTimeout(timer);
        // Asked for again meanwhile, it is another's.
        if (isOpen(one)) open.delete(payment.id);
        resolve(settlement);
      },
    };
    open.set(payment.id, one);
    // An item of a transaction already: whoever watches that has the word.
    if (payment.state === 'settling') elsewhere.add(one);
    else gathering.join(one);
    return promise;
  }

  return {
    settle,
    expect: gathering.expect,
    async resume() {
      await watchReorganisations().catch(deps.report);
      return takeUp(deps, (payment) => settle(payment), tell);
    },
  };
}

/** While so many of this process’s batches are on their way, payments gather for the next: one is written down while the chain takes another. */
const batchesBeforeGathering = 2;
/** Beyond so many they wait, however long: nodes hold no more of one account's transactions for sure. */
const batchesInFlightMax = 16;
/** A payment whose time hasn't come, or of which no node could tell, is tried again as soon as another block may be there. */
const laterPauseMs = 500;
/** Gathering lasts no longer than this, or a tenth of what a transaction takes: a block that is missed costs more than gas. */
const gatherMsMin = 100;
/** So long a batch waits for those who are about to come: on a chain that mines at once a block costs as much as many payments. */
const companyMs = 12;
/**
 * For so long somebody is about to come: longer than all takes that we do before a payment comes, even under load. Who hasn't come by then
 * waits for its upstream.
 */
const comingMs = 250;
/** What the chain said of a payment no longer ago than this isn't asked again before it is sent. */
const justMs = 1_000;

function wasJustVerified({ verifiedAtMs }: Waiting): boolean {
  return verifiedAtMs !== undefined && performance.now() - verifiedAtMs <= justMs;
}

/** Counts who is about to come; `over` is called when the last of them has come, has said that it won't, or is counted on no more. */
function createExpectations(over: () => void): { isAny(): boolean; expect(): () => void } {
  const timers = new Set<NodeJS.Timeout>();
  return {
    isAny: () => timers.size > 0,
    expect() {
      const end = () => {
        clearTimeout(timer);
        if (timers.delete(timer) && timers.size === 0) over();
      };
      const timer = setTimeout(end, comingMs);
      timers.add(timer);
      return end;
    },
  };
}

/** Whoever has payments settled in batches. */
interface Hears {
  tell(told: readonly Conclusion[]): void;
  isOpen(one: Waiting): boolean;
  /** Of a batch, when nothing more is to come of it here. */
  ended(batch: readonly Waiting[]): void;
}

/**
 * A lane of batches: while some are on their way, payments gather for the next, so that a batch is as large as the load makes it, and
 * a single payment doesn't wait. Who has left isn't settled by it.
 */
function createGathering(
  deps: BatchDeps,
  hears: Hears,
): { join(one: Waiting): void; leave(one: Waiting): void; expect(): () => void } {
  const gathering: Waiting[] = [];
  const coming = createExpectations(() => {
    if (gathering.length > 0) setImmediate(pump);
  });
  let preparing = false;
  let inFlight = 0;
  /** How long the chain takes for a transaction, as a moving average. */
  let inclusionMs = 0;
  let timer: NodeJS.Timeout | undefined;

  function pump(): void {
    // What it waited for may have come: another reason to wait has another length.
    clearTimeout(timer);
    const [oldest] = gathering;
    if (preparing || !oldest || inFlight >= batchesInFlightMax) return;
    const restMs = waitUntilMs(oldest) - performance.now();
    if (restMs <= 0) {
      void run(gathering.splice(0, limits.batchItems));
      return;
    }
    timer = setTimeout(pump, restMs);
  }

  function waitUntilMs(oldest: Waiting): number {
    if (gathering.length >= limits.batchItems) return 0;
    if (inFlight >= batchesBeforeGathering) return oldest.sinceMs + Math.max(gatherMsMin, inclusionMs / 10);
    return coming.isAny() ? oldest.sinceMs + companyMs : 0;
  }

  async function run(batch: readonly Waiting[]): Promise<void> {
    preparing = true;
    inFlight += 1;
    const later = await runBatch(deps, hears, batch, {
      prepared() {
        preparing = false;
        pump();
      },
      included(tookMs) {
        inclusionMs += (tookMs - inclusionMs) / 4;
      },
    });
    joinLater(later);
    inFlight -= 1;
    pump();
  }

  function join(one: Waiting): void {
    gathering.push(one);
    // At the end of this turn of the event loop, so that all who ask in it go together.
    setImmediate(pump);
  }

  function joinLater(those: readonly Waiting[]): void {
    if (those.length === 0) return;
    setTimeout(() => {
      for (const one of those) if (hears.isOpen(one)) join(one);
    }, laterPauseMs);
  }

  return {
    join,
    expect: coming.expect,
    leave(one) {
      const place = gathering.indexOf(one);
      if (place >= 0) gathering.splice(place, 1);
    },
  };
}

/** Settles a batch; gives those of it that are to be tried again soon. Never rejects. */
async function runBatch(
  deps: BatchDeps,
  hears: Hears,
  batch: readonly Waiting[],
  steps: Pick<BatchSteps, 'included' | 'prepared'>,
): Promise<Waiting[]> {
  const later = new Set<string>();
  try {
    const payments = batch.map(({ payment }) => payment);
    await settleBatch(deps, payments, {
      ...steps,
      areGood: batch.every(wasJustVerified),
      tell: hears.tell,
      later(those) {
        for (const { id } of those) later.add(id);
      },
    });
    hears.ended(batch.filter(({ payment }) => !later.has(payment.id)));
    return batch.filter(({ payment }) => later.has(payment.id));
  } catch (error) {
    deps.report(error);
    for (const { resolve } of batch) resolve({ kind: 'pending' });
    return [];
  }
}

interface BatchSteps {
  /** Whether the chain has said of all of them, a moment ago, that they are good. */
  areGood: boolean;
  /** The next batch may be prepared. */
  prepared(): void;
  included(tookMs: number): void;
  /** These are to be tried again soon. */
  later(payments: readonly Payment[]): void;
  tell(told: readonly Conclusion[]): void;
}

/**
 * One batch from start to end. A batch that reverts as a whole is tried again in halves, and at last alone, so that one payment
 * can't keep the others from being settled.
 */
async function settleBatch(deps: BatchDeps, payments: readonly Payment[], steps: BatchSteps): Promise<void> {
  const deadline = addSeconds(deps.context.clock.now(), limits.settlementMarginSeconds);
  const recording = recordBatch(deps, payments, steps.areGood);
  const { recorded, told, later } = await recording.finally(() => steps.prepared());
  steps.tell(told);
  steps.later(later);
  if (!recorded) return;
  const sentAtMs = performance.now();
  const conclusions = await watchBatch(deps, recorded.transaction, deadline, recorded.payments);
  if (!conclusions) return;
  await reach('concluded');
  steps.included(performance.now() - sentAtMs);
  steps.tell(conclusions);
  // Alone it has had its turn: what keeps it may be gone when it is taken up again.
  if (payments.length === 1) return;
  const again = conclusions.flatMap(({ payment, state }) => (state === 'responded' ? [payment] : []));
  const half = Math.ceil(again.length / 2);
  for (const part of [again.slice(0, half), again.slice(half)]) {
    if (part.length > 0)
      await settleBatch(deps, part, { ...steps, areGood: false, prepared: () => undefined });
  }
}
