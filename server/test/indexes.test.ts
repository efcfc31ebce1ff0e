import { expect, it } from 'vitest';
import { openTestDatabase } from './helpers/database.ts';

/**
 * Hot statements are planned once, on each connection, and perhaps while a table is small. Where another index than the primary
 * key begins as that does and holds its columns too, the planner may take it for as good, and a row by its key then costs a walk
 * through all that the environment has.
 */
it('no index can be mistaken for a primary key', async () => {
  const { db } = await openTestDatabase();
  const mistakable = await db.query(
    `SELECT other.indexrelid::regclass::text AS index
     FROM pg_index key JOIN pg_index other ON other.indrelid = key.indrelid AND other.indexrelid <> key.indexrelid
     WHERE key.indisprimary AND key.indnkeyatts > 1 AND other.indpred IS NULL
       AND other.indkey[0] = key.indkey[0] AND key.indkey::int2[] <@ other.indkey::int2[]
       AND key.indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)`,
  );
  expect(mistakable).toEqual([]);
});
