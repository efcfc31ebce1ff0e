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

it('a statement that was only sent fails its transaction, and leaves nothing of it', async () => {
  const { db } = await openTestDatabase({ empty: true });
  await db.query('CREATE TABLE notes (note int PRIMARY KEY)');
  const failing = db.transaction(async (sql) => {
    sql.send('INSERT INTO notes VALUES (1)');
    sql.send('INSERT INTO notes VALUES (1)');
    sql.send('INSERT INTO notes VALUES (2)');
  });
  await expect(failing).rejects.toThrow(/duplicate key/);
  expect(await db.query('SELECT * FROM notes')).toEqual([]);
  await db.transaction(async (sql) => sql.send('INSERT INTO notes VALUES (1)'));
  expect(await db.query('SELECT * FROM notes')).toEqual([{ note: 1 }]);
});

it('a transaction whose body hides a failure is not called committed', async () => {
  const { db } = await openTestDatabase({ empty: true });
  const hiding = db.transaction(async (sql) => {
    await sql.query('SELECT 1 / 0').catch(() => undefined);
    return 'done';
  });
  await expect(hiding).rejects.toThrow('a transaction in which a statement has failed throws');
});

it('a branch that goes on after another has failed writes nothing', async () => {
  const { db } = await openTestDatabase({ empty: true });
  await db.query('CREATE TABLE notes (note int PRIMARY KEY)');
  const ends: PromiseSettledResult<unknown>[][] = [];
  for (const fail of [() => Promise.reject(new Error('refused')), () => db.query('SELECT 1 / 0')]) {
    const left = Promise.withResolvers<Promise<unknown>>();
    const failing = db.transaction(async (sql) => {
      const sequel = sql.query('SELECT 1').then(async () => {
        await sleep(50);
        await sql.query('INSERT INTO notes VALUES (1)');
      });
      left.resolve(sequel);
      await Promise.all([sequel, fail()]);
    });
    ends.push(await Promise.allSettled([failing, left.promise]));
  }
  expect(ends.flat().map(({ status }) => status)).toEqual(Array.from({ length: 4 }, () => 'rejected'));
  expect(await db.query('SELECT * FROM notes')).toEqual([]);
});
