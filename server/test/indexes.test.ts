import { expect, it } from 'vitest';
import { type Database, openDatabase } from '../src/db/index.ts';
import { sumClaimed } from '../src/x402/claims/claims.sql.ts';
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

const network = 'eip155:84532';
const asset = '0xtoken';

/** Payments that are settled, or owed, of `count` payers: one each, or all of one. */
async function pay(
  db: Database,
  payer: string,
  count: number,
  state: 'responded' | 'settled',
): Promise<void> {
  await db.query(
    `INSERT INTO payments (environment_id, id, server_id, endpoint_id, network, asset, payer, nonce, pay_to, amount, valid_after,
       valid_before, signature, agent_id, agent_verified, client_address, mode, state, attempt, transaction, settled_at, created_at, updated_at)
     SELECT 'env', $1 || i, 'srv', 'end', $2, $3, CASE WHEN $1 = 'one' THEN 'one' || i ELSE $1 END, $1 || i, 'to', 1, 0, 1, 's', 'a', false, '',
       CASE WHEN $5 = 'settled' THEN 'after_success' ELSE 'optimistic' END, $5, 1, CASE WHEN $5 = 'settled' THEN 't' END,
       CASE WHEN $5 = 'settled' THEN now() - interval '1 day' END, now(), now()
     FROM generate_series(1, $4::int) i`,
    [payer, network, asset, count, state],
  );
}

/** How many rows of payments, or of their indexes, the statements of one connection have read. */
async function countRead(
  db: Database,
  url: string,
  ask: (sql: Database) => Promise<unknown>,
): Promise<number> {
  const read = async () => {
    const [row] = await db.query<{ tuples: bigint }>(
      `SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'payments')
         + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'payments') AS tuples`,
    );
    return Number(row?.tuples);
  };
  const before = await read();
  const batches = openDatabase(url, { poolSize: 1, onError: () => undefined, planOnce: true });
  await ask(batches);
  // A connection tells what it has read when it ends.
  await batches.close();
  const { promise, resolve } = Promise.withResolvers<number>();
  const look = async () => {
    const after = await read();
    if (after > before) resolve(after - before);
    else setTimeout(() => void look(), 20);
  };
  void look();
  return promise;
}

it('a payer’s claims are summed without its history, whatever the statistics say', async () => {
  const { db, url } = await openTestDatabase();
  await pay(db, 'one', 20_000, 'settled');
  await db.query('ANALYZE payments');
  await pay(db, 'often', 2_000, 'settled');
  await pay(db, 'often now', 1, 'responded');
  const payment = { network, asset, payer: 'often', id: 'new' };
  const tuples = await countRead(db, url, async (sql) => {
    const asks = [payment, { ...payment, payer: 'often now' }];
    const claimed = await sumClaimed(
      sql,
      asks.map((one) => ({ payment: one, balanceReadAt: new Date() })),
    );
    expect(claimed).toEqual([0n, 1n]);
  });
  expect(tuples).toBeLessThan(100);
});
