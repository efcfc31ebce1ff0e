import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { openTestDatabase } from '../../test/helpers/database.ts';

it('a connection that is lost in the middle of a transaction fails that transaction, and nothing else', async () => {
  const { db } = await openTestDatabase({ empty: true });
  const failing = db.transaction(async (sql) => {
    const [own] = await sql.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    await db.query('SELECT pg_terminate_backend($1)', [own?.pid]);
    // Nothing is asked at the moment at which the connection ends.
    await sleep(200);
    await sql.query('SELECT 1');
  });
  await expect(failing).rejects.toThrow(/terminat|not queryable/);
  expect(await db.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
});
