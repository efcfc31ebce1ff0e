import { limits } from '../../kernel/limits.ts';
import { type Hears, runBatch } from './run-batch.ts';
import { type BatchDeps, mayGoUntried } from './settle-batch.ts';
import { type Waiting, wasJustVerified } from './settlement.ts';

/** While so many of this process’s batches are on their way, payments gather for the next: one is written down while the chain takes another. */
const batchesBeforeGathering = 2;
/** Beyond so many they wait, however long: nodes hold no more of one account's transactions for sure. */
const batchesInFlightMax = 16;
/** A payment whose time hasn't come, or of which no node could tell, is tried again as soon as another block may be there. */
const laterPauseMs = 500;
/** Gathering lasts no longer than this, or a tenth of what a transaction takes: a block that is missed costs more than gas. */
const gatherMsMin = 100;
/** So long those wait for company whose answer is out already: nobody waits for them, and full batches cost the least gas. */
const patientMs = 250;
/** So long a batch waits for those who are about to come: on a chain that mines at once a block costs as much as many payments. */
const companyMs = 12;
/**
 * For so long somebody is about to come: longer than all takes that we do before a payment comes, even under load. Who hasn't come by then
 * waits for its upstream.
 */
const comingMs = 250;
/** A batch that the chain isn't asked of is written down within that, unless something hangs. */
const preparingMs = 100;

/** What isn't stored yet waits for company at most. */
function isUnstored({ unstored }: Waiting): boolean {
  return unstored !== undefined;
}

function isPatient({ payment }: Waiting): boolean {
  return payment.mode === 'optimistic';
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

interface Gathering {
  join(one: Waiting): void;
  leave(one: Waiting): void;
  expect(): () => void;
  /** Whether who joins now leaves within some milliseconds. */
  isQuick(): boolean;
}

/**
 * A lane of batches: while some are on their way, payments gather for the next, so that a batch is as large as the load makes it, and
 * a single payment doesn't wait. Who has left isn't settled by it.
 */
export function createGathering(deps: BatchDeps, hears: Hears): Gathering {
  const gathering: Waiting[] = [];
  const coming = createExpectations(() => {
    if (gathering.length > 0) setImmediate(pump);
  });
  let preparing = false;
  /** From when on what is being prepared takes long. */
  let slowFromMs = Infinity;
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
    if (inFlight >= batchesBeforeGathering && !gathering.some(isUnstored))
      return oldest.sinceMs + Math.max(gatherMsMin, inclusionMs / 10);
    if (gathering.every(isPatient)) return oldest.sinceMs + patientMs;
    return coming.isAny() ? oldest.sinceMs + companyMs : 0;
  }

  async function run(batch: readonly Waiting[]): Promise<void> {
    preparing = true;
    const isTried = !batch.every(wasJustVerified) || !mayGoUntried(deps);
    slowFromMs = isTried ? 0 : performance.now() + preparingMs;
    inFlight += 1;
    const later = await runBatch(deps, hears, batch, {
      prepared() {
        preparing = false;
        slowFromMs = Infinity;
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
    isQuick: () => inFlight < batchesBeforeGathering && performance.now() < slowFromMs,
    leave(one) {
      const place = gathering.indexOf(one);
      if (place >= 0) gathering.splice(place, 1);
    },
  };
}
