import { expect, it } from 'vitest';
import { openTestDatabase } from '../../test/helpers/database.ts';
import { addSeconds } from '../kernel/clock.ts';
import { limits } from '../kernel/limits.ts';
import { sweepOutbox } from './sweep-outbox.ts';

const { db } = await openTestDatabase();
const start = new Date('2026-11-22T10:00:00Z');

it('news that nobody takes is forgotten after a week, and what is to be done never', async () => {
  await db.query(
    `INSERT INTO outbox (environment_id, topic, payload, created_at)
     SELECT 'env', topic, '{}', created_at FROM unnest(ARRAY['news', 'work']) AS topic,
       unnest($1::timestamptz[]) AS created_at, generate_series(1, 6000)`,
    [[start, addSeconds(start, 1)]],
  );
  const countAt = async (seconds: number) => {
    const clock = { now: () => addSeconds(start, limits.newsSeconds + seconds) };
    await sweepOutbox({ db, clock }, ['news']);
    const rows = await db.query<{ topic: string; count: number }>(
      'SELECT topic, count(*)::int AS count FROM outbox GROUP BY topic ORDER BY topic',
    );
    return Object.fromEntries(rows.map(({ topic, count }) => [topic, count]));
  };
  expect(await countAt(0)).toEqual({ news: 12_000, work: 12_000 });
  expect(await countAt(1)).toEqual({ news: 6_000, work: 12_000 });
  expect(await countAt(2)).toEqual({ work: 12_000 });
});
