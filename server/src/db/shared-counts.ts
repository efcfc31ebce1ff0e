import { assert } from '../kernel/assert.ts';
import type { Clock } from '../kernel/clock.ts';
import { limits } from '../kernel/limits.ts';
import type { Database } from './database.ts';
import { deleteInBatches } from './delete-in-batches.ts';
import { createLane } from './lane.ts';

/** How often something may happen in a minute. */
export interface SharedLimit {
  max: number;
  /**
   * So many of them a process lets through before it writes them down, in one statement, and reads what all have counted. Of N processes
   * N times as many may come beyond `max`, of one none; with 0 none ever does, and each costs a statement.
   */
  unwritten: number;
}

/** What came of counting one. */
export interface Counted {
  isWithin: boolean;
  /** What is known to be left, and when the minute ends, in whole seconds. */
  left: number;
  endsInSeconds: number;
}

/** Counts what may happen so often in a minute, for all processes together: a minute begins with the first of it. */
export interface SharedCounts {
  /** Counts one. Beyond the limit, that is known here, and asks nothing any more. */
  take(key: string, limit: SharedLimit): Promise<Counted>;
  /** In how many seconds the minute ends, where the limit is known to be used up. */
  usedUpFor(key: string, limit: SharedLimit): number | undefined;
  /** Resolves when all that was begun is written. */
  stop(): Promise<void>;
}

const windowMs = 60_000;

/** What a process knows of a key: what all had counted when they were asked, and what it has counted since. */
interface Entry {
  /** As this process takes the time to be, which may be wrong: each time that it writes, the database says how long is left. */
  endsAt: number;
  count: number;
  /** Until they are written, so that who comes meanwhile joins those that wait for that. */
  unwritten: number;
}

interface Job {
  key: string;
  entry: Entry;
  max: number;
}

export function createSharedCounts(context: { db: Database; clock: Clock }): SharedCounts {
  const entries = new Map<string, Entry>();
  const lane = createLane<Job, boolean>({
    batchMax: limits.tokenBatch,
    run: (jobs) => writeDown(context, jobs),
  });

  const msLeft = ({ endsAt }: Entry) => endsAt - context.clock.now().getTime();

  function find(key: string): Entry | undefined {
    const found = entries.get(key);
    if (!found) return undefined;
    const left = msLeft(found);
    // Within a minute: a clock that was set back makes nobody wait for as long.
    return left > 0 && left <= windowMs ? found : undefined;
  }

  function begin(key: string): Entry {
    const entry = { endsAt: context.clock.now().getTime() + windowMs, count: 0, unwritten: 0 };
    entries.delete(key);
    entries.set(key, entry);
    const [oldest] = entries.size > limits.guessMemoryEntries ? entries.keys() : [];
    if (oldest !== undefined) entries.delete(oldest);
    return entry;
  }

  const tell = (entry: Entry, isWithin: boolean, max: number): Counted => ({
    isWithin,
    left: Math.max(0, max - entry.count - entry.unwritten),
    endsInSeconds: Math.max(1, Math.ceil(msLeft(entry) / 1000)),
  });

  return {
    async take(key, { max, unwritten }) {
      const entry = find(key) ?? begin(key);
      if (entry.count + entry.unwritten >= max) return tell(entry, false, max);
      if (entry.unwritten < unwritten) {
        entry.unwritten += 1;
        return tell(entry, true, max);
      }
      return tell(entry, await lane.submit({ key, entry, max }), max);
    },
    usedUpFor(key, { max }) {
      const entry = find(key);
      return entry && entry.count + entry.unwritten >= max
        ? tell(entry, false, max).endsInSeconds
        : undefined;
    },
    stop: () => lane.stop(),
  };
}

/** No minute ends later than in one: the database's clock was set back since. */
const isOver = "(c.ends_at <= clock_timestamp() OR c.ends_at > clock_timestamp() + interval '1 minute')";

/** Adds what was counted here to what all have counted, and says of each job whether it was still within the limit. */
async function writeDown(
  { db, clock }: { db: Database; clock: Clock },
  jobs: readonly Job[],
): Promise<boolean[]> {
  const now = clock.now().getTime();
  const given = [...Map.groupBy(jobs, ({ key }) => key)].flatMap(([key, [first, ...more]]) =>
    first ? [{ key, entry: first.entry, came: more.length + 1, unwritten: first.entry.unwritten }] : [],
  );
  const rows = await db.query<{ key: string; count: number; leftMs: number }>(
    // In one order, so that two processes don't wait for each other's in a ring.
    `INSERT INTO shared_counts AS c (key, count, ends_at)
     SELECT key, count, clock_timestamp() + make_interval(secs => left_ms / 1000)
     FROM unnest($1::text[], $2::int[], $3::float8[]) AS given (key, count, left_ms) ORDER BY key
     ON CONFLICT (key) DO UPDATE SET
       count = excluded.count + CASE WHEN ${isOver} THEN 0 ELSE c.count END,
       ends_at = CASE WHEN ${isOver} THEN excluded.ends_at ELSE c.ends_at END
     RETURNING key, count, (extract(epoch FROM ends_at - clock_timestamp()) * 1000)::float8 AS left_ms`,
    [
      given.map(({ key }) => key),
      given.map(({ came, unwritten }) => came + unwritten),
      given.map(({ entry }) => Math.min(windowMs, Math.max(1, entry.endsAt - now))),
    ],
  );
  const byKey = new Map(rows.map((row) => [row.key, row]));
  const places = new Map<string, number>();
  for (const { key, entry, came, unwritten } of given) {
    const row = byKey.get(key);
    assert(row, 'a statement that counts gives each of its counts');
    places.set(key, row.count - came);
    entry.count = row.count;
    entry.unwritten -= unwritten;
    entry.endsAt = clock.now().getTime() + Math.min(windowMs, row.leftMs);
  }
  return jobs.map(({ key, max }) => {
    const place = (places.get(key) ?? max) + 1;
    places.set(key, place);
    return place <= max;
  });
}

/** Forgets the counts of minutes that are over. */
export async function sweepSharedCounts({ db }: { db: Database }): Promise<void> {
  await deleteInBatches(db, {
    table: 'shared_counts AS c',
    condition: isOver,
    values: [],
  });
}
