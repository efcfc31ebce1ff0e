import { assert } from '../kernel/assert.ts';
import type { Clock } from '../kernel/clock.ts';
import { type Loop, startLoop } from '../kernel/loop.ts';
import type { Sql } from './database.ts';

/**
 * The database's clock, which every process can read and which is one for all of them, as far as it can be known without asking each
 * time: never ahead of it, and behind it by an answer's way and a millisecond at most. It goes back only where the database's clock was set
 * back, which the next comparison shows: until then it is ahead.
 */
export interface DatabaseClock extends Clock {
  /** How far this machine's own clock was ahead of it at first; negative where it was behind. */
  machineAheadMs: number;
  stop(): Promise<void>;
}

/** How far the database's clock was ahead of `performance.now()` at a moment of that, between these two. */
interface Comparison {
  leastMs: number;
  mostMs: number;
  madeAtMs: number;
}

const intervalMs = 2_000;
/** What disciplines a clock may slow it down by this much (NTP): a millisecond from one comparison to the next. */
const drift = 500e-6;
/** The machine's clock was set, or the machine has slept, through which `performance.now()` may stand still. */
const jumpMs = 1_000;
/** What an answer takes that nothing has held up, and how often a better one is asked for at first. */
const promptMs = 5;
const asksMax = 3;

/**
 * Compares the clocks, and goes on doing so until it is stopped: every two seconds, and as soon as this machine's clock has jumped. While the
 * database is away the last comparison counts. Throws where the database doesn't answer the first one.
 */
export async function createDatabaseClock(
  db: Sql,
  { onError }: { onError: (error: unknown) => void },
): Promise<DatabaseClock> {
  let known = await compareFirst(db);
  const nowMs = () => {
    const moment = performance.now();
    return moment + aheadAt(known, moment);
  };
  let machineMs = machineAhead();
  const machineAheadMs = Math.round(Date.now() - nowMs());

  const loop: Loop = startLoop({
    intervalMs,
    async run() {
      known = narrow(known, await compare(db));
      machineMs = machineAhead();
    },
    onError,
  });
  return {
    machineAheadMs,
    now() {
      const ahead = machineAhead();
      if (Math.abs(ahead - machineMs) > jumpMs) {
        // Once for each jump, however long the answer takes.
        machineMs = ahead;
        loop.wake();
      }
      return new Date(Math.floor(nowMs()));
    },
    stop: () => loop.stop(),
  };
}

/** A start keeps the event loop busy, and that is taken for the answer's way: then it is asked again, and the best of all counts. */
async function compareFirst(db: Sql): Promise<Comparison> {
  let known = await compare(db);
  for (let asks = 1; known.mostMs - known.leastMs > promptMs && asks < asksMax; asks += 1)
    known = narrow(known, await compare(db));
  return known;
}

async function compare(db: Sql): Promise<Comparison> {
  const askedAtMs = performance.now();
  const [row] = await db.query<{ ms: number }>(
    'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms',
  );
  const madeAtMs = performance.now();
  assert(row, 'a clock answers');
  // It was read after it was asked for, and by now it shows more.
  return { leastMs: row.ms - madeAtMs, mostMs: row.ms - askedAtMs, madeAtMs };
}

/** An answer that was held up says less than an earlier one, unless it shows that the database's clock was set back since. */
function narrow(known: Comparison, next: Comparison): Comparison {
  const aheadMs = aheadAt(known, next.madeAtMs);
  return aheadMs > next.mostMs ? next : { ...next, leastMs: Math.max(next.leastMs, aheadMs) };
}

function aheadAt({ leastMs, madeAtMs }: Comparison, momentMs: number): number {
  return leastMs - (momentMs - madeAtMs) * drift;
}

function machineAhead(): number {
  return Date.now() - performance.now();
}
