import { expect, it } from 'vitest';
import { openTestDatabase } from '../../test/helpers/database.ts';
import { limits } from '../kernel/limits.ts';
import type { Database } from './database.ts';
import { deleteInBatches } from './delete-in-batches.ts';

const { db } = await openTestDatabase();

it('deletes all that is meant and nothing else, so many rows in a statement', async () => {
  await db.query(
    `INSERT INTO used_proofs (id, expires_at)
     SELECT sha256(i::text::bytea), to_timestamp(i % 2) FROM generate_series(1, $1::int) i`,
    [5 * limits.sweepBatch],
  );
  const counts: number[] = [];
  const query: Database['query'] = async (text, values) => {
    const rows = await db.query(text, values);
    counts.push(rows.length);
    return rows as never;
  };
  const values = [new Date(0)];
  await deleteInBatches({ query }, { table: 'used_proofs', condition: 'expires_at <= $1', values });
  expect(counts).toEqual([limits.sweepBatch, limits.sweepBatch, limits.sweepBatch / 2]);
  expect(await db.query('SELECT DISTINCT expires_at FROM used_proofs')).toEqual([
    { expiresAt: new Date(1000) },
  ]);
});
