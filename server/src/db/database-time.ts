import { assert } from '../kernel/assert.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Database } from './database.ts';

/** How far the database's clock is ahead of `performance.now()`: at least so much, and less than a round trip more. */
interface Comparison {
  aheadMs: number;
  madeAtMs: number;
}

/** Two clocks part by a millisecond in this time at most: what disciplines a clock may shift it by 500 millionths (NTP). */
const goodForMs = 2_000;
/** What an answer takes whose way nothing has held up, and how often a better one is asked for: each claim waits for it. */
const promptMs = 5;
const asksMax = 3;
const comparisons = new WeakMap<Database, Promise<Comparison>>();

/**
 * What the database's clock showed at a moment that this process's clock gave, or a little earlier: never later. What processes
 * compare with one another is measured by one clock, as theirs may be minutes apart.
 */
export async function databaseTimeOf(
  { db, clock }: { db: Database; clock: Clock },
  moment: Date,
): Promise<Date> {
  const agoMs = Math.max(0, clock.now().getTime() - moment.getTime());
  const momentMs = performance.now() - agoMs;
  const { aheadMs } = await compareClocks(db);
  return new Date(Math.floor(momentMs + aheadMs));
}

async function compareClocks(db: Database): Promise<Comparison> {
  const known = await comparisons.get(db);
  if (known && performance.now() - known.madeAtMs < goodForMs) return known;
  const fresh = askClock(db);
  comparisons.set(db, fresh);
  // The next one asks again.
  fresh.catch(() => comparisons.delete(db));
  return fresh;
}

/**
 * A turn of the event loop that takes long is taken for the answer's way: then it is asked again, and the best of all counts, as each
 * says how far ahead it is at least.
 */
async function askClock(db: Database): Promise<Comparison> {
  for (let best: Comparison | undefined, count = 1; ; count += 1) {
    const askedAtMs = performance.now();
    const [row] = await db.query<{ ms: number }>(
      'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms',
    );
    const madeAtMs = performance.now();
    assert(row, 'a clock answers');
    // By now it is later there: the answer has been on its way.
    best = { aheadMs: Math.max(row.ms - madeAtMs, best?.aheadMs ?? -Infinity), madeAtMs };
    if (madeAtMs - askedAtMs <= promptMs || count === asksMax) return best;
  }
}
