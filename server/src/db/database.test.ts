import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { openTestDatabase } from '../../test/helpers/database.ts';
import { startDyingDatabase } from '../../test/helpers/dying-database.ts';
import { type Database, openDatabase } from './database.ts';

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

it.each([
  { what: 'a transaction', use: (db: Database) => db.transaction((sql) => sql.query('SELECT 1')) },
  { what: 'a statement', use: (db: Database) => db.query('SELECT 1') },
  {
    what: 'a connection of its own',
    use: async (db: Database) => {
      const client = await db.connect();
      try {
        await client.query('SELECT 1');
      } finally {
        await client.end();
      }
    },
  },
])('$what whose server ends in the moment in which it is ready fails, and nothing else', async ({ use }) => {
  const { url } = await openTestDatabase({ empty: true });
  const server = await startDyingDatabase(url, 1);
  const db = openDatabase(server.url, { poolSize: 1, onError: () => undefined });
  try {
    await expect(use(db)).rejects.toThrow(/unexpected postmaster exit|not queryable/);
    await use(db);
  } finally {
    await db.close();
    await server.close();
  }
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
