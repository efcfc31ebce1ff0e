import { expect, it } from 'vitest';
import { openTestDatabase } from '../../test/helpers/database.ts';
import { systemClock as clock } from '../kernel/clock.ts';
import type { Database } from './database.ts';
import { databaseTimeOf } from './database-time.ts';

it('is not misled by an answer that was heard late', async () => {
  const stallMs = 1_000;
  const { db } = await openTestDatabase({ empty: true });
  let isFirst = true;
  const stalling: Database = {
    ...db,
    async query(...asked: Parameters<Database['query']>) {
      const rows = await db.query(...asked);
      if (isFirst) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, stallMs);
      isFirst = false;
      return rows as never;
    },
  };
  await databaseTimeOf({ db: stalling, clock }, clock.now());
  const [row] = await db.query<{ before: Date }>('SELECT clock_timestamp() AS before');
  const at = await databaseTimeOf({ db: stalling, clock }, clock.now());
  expect(at.getTime()).toBeGreaterThan((row?.before.getTime() ?? Infinity) - stallMs / 2);
});
