import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { openTestDatabase } from '../../test/helpers/database.ts';
import { createDatabaseClock, type DatabaseClock } from './database-clock.ts';
import { type Database, openDatabase } from './database.ts';

/** A database whose clock a test can set: what its connections call `clock_timestamp` is further ahead by what a table says. */
let db: Database;
let clock: DatabaseClock;
let url: string;
beforeAll(async () => {
  const database = await openTestDatabase({ empty: true });
  await database.db.query('CREATE SCHEMA set_clock');
  await database.db.query(`CREATE TABLE set_clock.ahead AS SELECT interval '0' AS by`);
  await database.db
    .query(`CREATE FUNCTION set_clock.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql
    AS 'SELECT pg_catalog.clock_timestamp() + by FROM set_clock.ahead'`);
  const own = new URL(database.url);
  own.searchParams.set('options', '-c search_path=set_clock,pg_catalog');
  url = own.href;
  db = open();
});
afterEach(async () => {
  vi.restoreAllMocks();
  await clock?.stop();
  await setAhead(0);
});
afterAll(() => db?.close());

const open = () => openDatabase(url, { poolSize: 4, onError: () => undefined });
const rethrow = (error: unknown): never => {
  throw error;
};
const setAhead = (seconds: number) => db.query('UPDATE ahead SET by = make_interval(secs => $1)', [seconds]);

async function askTime(): Promise<number> {
  const [row] = await db.query<{ at: Date }>('SELECT clock_timestamp() AS at');
  return row?.at.getTime() ?? Number.NaN;
}

/** How far the clock is ahead of the database's: an answer is on its way for a moment, which is none of it. */
const aheadMs = async () => clock.now().getTime() - (await askTime());
/** Minutes were set, and ways take milliseconds. */
const near = 30_000;

describe("the database's clock", () => {
  it.each([0, 600, -600])(
    'is never early, and late by no more than an answer takes, %d seconds off ours',
    async (seconds) => {
      await setAhead(seconds);
      clock = await createDatabaseClock(db, { onError: rethrow });
      expect(Math.abs(clock.machineAheadMs + seconds * 1000)).toBeLessThan(near);
      for (let round = 0; round < 500; round += 1) {
        const before = clock.now().getTime();
        const there = await askTime();
        expect(before).toBeLessThanOrEqual(there);
        expect(clock.now().getTime()).toBeGreaterThan(there - near);
      }
    },
  );

  it('does not go back while nobody sets it back, though later answers are long on their way', async () => {
    const count = { answers: 0 };
    const slow: Pick<Database, 'query'> = {
      async query(...asked: Parameters<Database['query']>) {
        const rows = await db.query(...asked);
        if (count.answers > 0) await sleep(200);
        count.answers += 1;
        return rows as never;
      },
    };
    clock = await createDatabaseClock(slow, { onError: rethrow });
    for (let last = clock.now(); count.answers < 4; await new Promise(setImmediate)) {
      const now = clock.now();
      expect(now.getTime()).toBeGreaterThanOrEqual(last.getTime());
      last = now;
    }
  });

  it('is followed where it is set, forward and back', async () => {
    clock = await createDatabaseClock(db, { onError: rethrow });
    for (const seconds of [600, -600, 0]) {
      await setAhead(seconds);
      await vi.waitFor(async () => expect(Math.abs(await aheadMs())).toBeLessThan(near), 20_000);
      expect(await aheadMs()).toBeLessThanOrEqual(0);
    }
  });

  it('is not mistaken where its first answers are heard late', async () => {
    const stallMs = 1_000;
    let stalls = 2;
    const stalling: Pick<Database, 'query'> = {
      async query(...asked: Parameters<Database['query']>) {
        const rows = await db.query(...asked);
        if (stalls > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, stallMs);
        stalls -= 1;
        return rows as never;
      },
    };
    clock = await createDatabaseClock(stalling, { onError: rethrow });
    const there = await askTime();
    expect(clock.now().getTime()).toBeGreaterThan(there - stallMs / 2);
  });

  it('is asked at once, and once, where the clock of this machine jumps', async () => {
    const count = { asked: 0, underWay: 0 };
    const counting: Pick<Database, 'query'> = {
      async query(...given: Parameters<Database['query']>) {
        count.asked += 1;
        count.underWay += 1;
        return (await db.query(...given).finally(() => (count.underWay -= 1))) as never;
      },
    };
    clock = await createDatabaseClock(counting, { onError: rethrow });
    const trueNow = Date.now.bind(Date);
    for (const jumpMs of [3_600_000, 0]) {
      while (count.underWay > 0) await sleep(1);
      // What came of the last answer is written down in the turns behind it.
      await sleep(10);
      const before = count.asked;
      clock.now();
      expect(count.asked, 'it stands as it stood').toBe(before);
      vi.spyOn(Date, 'now').mockImplementation(() => trueNow() + jumpMs);
      clock.now();
      clock.now();
      expect(count.asked).toBe(before + 1);
      expect(Math.abs(await aheadMs())).toBeLessThan(near);
    }
  });

  it('goes on while the database is away', async () => {
    const away = open();
    const errors: unknown[] = [];
    clock = await createDatabaseClock(away, { onError: (error) => errors.push(error) });
    await away.close();
    await vi.waitFor(() => expect(errors.length).toBeGreaterThan(1), 20_000);
    const before = errors.length;
    const jumpedTo = Date.now() + 3_600_000;
    vi.spyOn(Date, 'now').mockImplementation(() => jumpedTo);
    for (let turn = 0; turn < 100; turn += 1) {
      clock.now();
      await new Promise(setImmediate);
    }
    expect(errors.length - before, 'the jump is one question more').toBeLessThanOrEqual(3);
    const ahead = await aheadMs();
    expect(ahead).toBeLessThanOrEqual(0);
    expect(ahead).toBeGreaterThan(-near);
  });
});
