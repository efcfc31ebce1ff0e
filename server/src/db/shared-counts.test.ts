import { beforeAll, describe, expect, it } from 'vitest';
import { openTestDatabase } from '../../test/helpers/database.ts';
import { addSeconds, systemClock } from '../kernel/clock.ts';
import type { Database } from './database.ts';
import {
  createSharedCounts,
  type SharedCounts,
  type SharedLimit,
  sweepSharedCounts,
} from './shared-counts.ts';

let db: Database;
beforeAll(async () => {
  ({ db } = await openTestDatabase());
});

let keys = 0;
const newKey = () => `key ${(keys += 1)}`;
/** As in a process of its own; its clock is so many seconds ahead. */
const open = (aheadSeconds = 0) =>
  createSharedCounts({ db, clock: { now: () => addSeconds(systemClock.now(), aheadSeconds) } });

/** How many of so many at once are within the limit, given to these in turn. */
async function take(
  times: number,
  key: string,
  limit: SharedLimit,
  ...counts: [SharedCounts, ...SharedCounts[]]
) {
  const counted = await Promise.all(
    Array.from({ length: times }, (_, index) =>
      (counts[index % counts.length] ?? counts[0]).take(key, limit),
    ),
  );
  return counted.filter(({ isWithin }) => isWithin).length;
}
const rowOf = async (key: string) =>
  (await db.query<{ count: number }>('SELECT count FROM shared_counts WHERE key = $1', [key]))[0]?.count;
const moveEnd = (key: string, by: string) =>
  db.query('UPDATE shared_counts SET ends_at = ends_at + $2::interval WHERE key = $1', [key, by]);
const endMinute = (key: string) => moveEnd(key, '-1 minute');

describe('counts', () => {
  it.each([0, 6, 60])(
    'of one process are exact, with %d unwritten, one by one and at once',
    async (unwritten) => {
      const [counts, slowly, atOnce] = [open(), newKey(), newKey()];
      const limit = { max: 60, unwritten };
      const within = [];
      for (let index = 0; index < 70; index += 1) within.push((await counts.take(slowly, limit)).isWithin);
      expect(within).toEqual([...Array<boolean>(60).fill(true), ...Array<boolean>(10).fill(false)]);
      expect(await take(200, atOnce, limit, counts)).toBe(60);
    },
  );

  it('of several processes are exact where nothing is left unwritten', async () => {
    const key = newKey();
    const limit = { max: 60, unwritten: 0 };
    const processes = [open(), open(), open()] as const;
    expect(await take(45, key, limit, ...processes)).toBe(45);
    expect(await take(300, key, limit, ...processes)).toBe(15);
    expect(await take(30, key, limit, open())).toBe(0);
  });

  it('of several processes exceed a limit by what each may leave unwritten', async () => {
    const limit = { max: 300, unwritten: 30 };
    for (let round = 0; round < 5; round += 1) {
      const key = newKey();
      const processes = [open(), open(), open()] as const;
      const within = await take(2_000, key, limit, ...processes);
      expect(within).toBeGreaterThanOrEqual(300);
      expect(within).toBeLessThanOrEqual(300 + 3 * 30);
    }
  });

  it('below what may be left unwritten ask nothing of the database, nor does what is known to be used up', async () => {
    const [counts, key] = [open(), newKey()];
    const limit = { max: 60, unwritten: 6 };
    expect(await take(6, key, limit, counts)).toBe(6);
    expect(await rowOf(key)).toBeUndefined();
    await take(100, key, limit, counts);
    const written = await rowOf(key);
    await take(100, key, limit, counts);
    expect(await rowOf(key)).toBe(written);
  });

  it('say what is left, and until when', async () => {
    const [counts, key] = [open(), newKey()];
    const limit = { max: 2, unwritten: 0 };
    expect(counts.usedUpFor(key, limit)).toBeUndefined();
    expect((await counts.take(key, limit)).left).toBe(1);
    expect(counts.usedUpFor(key, limit)).toBeUndefined();
    expect((await counts.take(key, limit)).left).toBe(0);
    const { left, endsInSeconds } = await counts.take(key, limit);
    expect(left).toBe(0);
    expect(endsInSeconds).toBe(counts.usedUpFor(key, limit));
    expect(endsInSeconds).toBeGreaterThan(30);
    expect(endsInSeconds).toBeLessThanOrEqual(60);
  });
});

describe('a minute', () => {
  const limit = { max: 10, unwritten: 1 };

  it('begins anew when it is over, here and in the database', async () => {
    const key = newKey();
    let aheadSeconds = 0;
    const counts = createSharedCounts({
      db,
      clock: { now: () => addSeconds(systemClock.now(), aheadSeconds) },
    });
    expect(await take(20, key, limit, counts)).toBe(10);
    aheadSeconds = 61;
    // The database's own clock says that it isn't over.
    expect(await take(20, key, limit, counts)).toBe(1);
    aheadSeconds = 122;
    await endMinute(key);
    expect(await take(20, key, limit, counts)).toBe(10);
    expect(await rowOf(key)).toBeLessThanOrEqual(20);
  });

  it.each([3_600, -3_600])('is as long for a process whose clock is %d s ahead', async (aheadSeconds) => {
    const [key, other] = [newKey(), open(aheadSeconds)];
    expect(await take(20, key, limit, other)).toBe(10);
    const here = open();
    expect(await take(20, key, limit, here)).toBe(1);
    for (const counts of [here, other]) {
      expect(counts.usedUpFor(key, limit)).toBeGreaterThan(30);
      expect(counts.usedUpFor(key, limit)).toBeLessThanOrEqual(60);
    }
  });

  it('ends for all when it ends in the database, however much is counted in it', async () => {
    const key = newKey();
    await take(2, key, limit, open());
    await moveEnd(key, '-40 seconds');
    const late = open();
    for (const counts of [late, open()]) await take(20, key, limit, counts);
    expect(late.usedUpFor(key, limit)).toBeLessThanOrEqual(20);
    const [row] = await db.query<{ isSo: boolean }>(
      "SELECT ends_at <= clock_timestamp() + interval '20 seconds' AS is_so FROM shared_counts WHERE key = $1",
      [key],
    );
    expect(row).toEqual({ isSo: true });
  });

  it('isn’t prolonged by a clock that is set back', async () => {
    const key = newKey();
    let aheadSeconds = 3_600;
    const counts = createSharedCounts({
      db,
      clock: { now: () => addSeconds(systemClock.now(), aheadSeconds) },
    });
    expect(await take(20, key, limit, counts)).toBe(10);
    aheadSeconds = 0;
    await endMinute(key);
    expect(await take(20, key, limit, counts)).toBe(10);
  });

  it('is over where the database’s clock was set back to before it', async () => {
    const key = newKey();
    expect(await take(20, key, limit, open())).toBe(10);
    await moveEnd(key, '1 hour');
    const counts = open();
    expect(await take(20, key, limit, counts)).toBe(10);
    expect(counts.usedUpFor(key, limit)).toBeLessThanOrEqual(60);
    expect(await take(20, key, limit, open())).toBe(1);
  });
});

it('counts of minutes that are over are forgotten, others not', async () => {
  const [over, ahead, live] = [newKey(), newKey(), newKey()];
  for (const key of [over, ahead, live]) await take(3, key, { max: 10, unwritten: 0 }, open());
  await endMinute(over);
  await moveEnd(ahead, '1 hour');
  await sweepSharedCounts({ db });
  expect(await Promise.all([over, ahead, live].map(rowOf))).toEqual([undefined, undefined, 3]);
});

it('a count that couldn’t be written is none', async () => {
  const key = newKey();
  const limit = { max: 10, unwritten: 2 };
  let broken = true;
  const counts = createSharedCounts({
    db: {
      ...db,
      query: (...given) => (broken ? Promise.reject(new Error('gone')) : db.query(...given)),
    },
    clock: systemClock,
  });
  expect(await take(2, key, limit, counts)).toBe(2);
  await expect(counts.take(key, limit)).rejects.toThrow('gone');
  broken = false;
  expect(await take(20, key, limit, counts)).toBe(8);
});
