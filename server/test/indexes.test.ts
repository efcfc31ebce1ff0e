import { expect, it } from 'vitest';
import { type Database, openDatabase, type Sql, sweepIdempotencyKeys, sweepOutbox } from '../src/db/index.ts';
import { sweepFailures } from '../src/identity/credentials/failed-attempts.sql.ts';
import { sweepRefusals } from '../src/identity/credentials/refusals.ts';
import { sweepProofs } from '../src/identity/oauth/proof-register.ts';
import { sweepRevokedTokens } from '../src/identity/oauth/revocations.sql.ts';
import { sumClaimed, sumOwed } from '../src/x402/claims/payer-sums.sql.ts';
import { sweepStoredResponses } from '../src/x402/payments/payments.sql.ts';
import type { Payment } from '../src/x402/payments/payment.ts';
import { concludePayments, takeForSettling } from '../src/x402/settlement/conclusions.sql.ts';
import { takeAbandoned } from '../src/x402/settlement/take-up.sql.ts';
import { openTestDatabase, testContext, type TestDatabase } from './helpers/database.ts';

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

/** How many rows of a table, or of its indexes, the statements of one connection have read. */
async function countRead(
  { db, url }: TestDatabase,
  table: string,
  ask: (sql: Database) => Promise<unknown>,
  options: { planOnce?: true } = {},
): Promise<number> {
  const read = async () => {
    const [row] = await db.query<{ tuples: bigint }>(
      `SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = $1)
         + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = $1) AS tuples`,
      [table],
    );
    return Number(row?.tuples);
  };
  const before = await read();
  const batches = openDatabase(url, { poolSize: 1, onError: () => undefined, ...options });
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
  const database = await openTestDatabase();
  const { db } = database;
  await pay(db, 'one', 20_000, 'settled');
  await db.query('ANALYZE payments');
  await pay(db, 'often', 2_000, 'settled');
  await pay(db, 'often now', 1, 'responded');
  const payment = { network, asset, payer: 'often', id: 'new' };
  const sum = async (sql: Database) => {
    const asks = [payment, { ...payment, payer: 'often now' }];
    const claimed = await sumClaimed(
      sql,
      asks.map((one) => ({ payment: one, balanceReadAt: new Date() })),
    );
    expect(claimed).toEqual([0n, 1n]);
  };
  const tuples = await countRead(database, 'payments', sum, { planOnce: true });
  expect(tuples).toBeLessThan(100);
});

it('what payers owe is summed without a look at all that is owed for each of them, whatever the statistics say', async () => {
  const database = await openTestDatabase();
  await database.db.query('ANALYZE payments');
  const owed = 20_000;
  await pay(database.db, 'one', owed, 'responded');
  const payers = Array.from({ length: 20 }, (_, index) => ({
    network,
    asset,
    payer: `one${index + 1}`,
    nonce: 'new',
  }));
  const sum = async (sql: Database) => {
    const sums = await sumOwed(sql, [], payers);
    expect([sums.byNetwork.get(network), sums.byPayer.size]).toEqual([BigInt(owed), payers.length]);
  };
  const tuples = await countRead(database, 'payments', sum, { planOnce: true });
  expect(tuples, 'once for the network').toBeLessThan(2 * owed);
});

it('a batch is taken and concluded by its keys, whatever the statistics say', async () => {
  const { db } = await openTestDatabase();
  await db.query('ANALYZE payments');
  await pay(db, 'one', 20_000, 'responded');
  const payments = await db.query<Payment>('SELECT * FROM payments LIMIT 3');
  // As the connections plan that settle.
  const client = await db.connect();
  await client.query('SET enable_seqscan = off');
  const plans: string[] = [];
  const planned: Sql = {
    async query(text) {
      const { rows } = await client.query<{ 'QUERY PLAN': string }>(`EXPLAIN (GENERIC_PLAN) ${text}`);
      plans.push(rows.map((row) => row['QUERY PLAN']).join('\n'));
      return [];
    },
  };
  await takeForSettling(planned, payments);
  await concludePayments(
    planned,
    payments.map((payment) => ({ payment, state: 'responded' })),
    ['settling'],
  );
  await client.end();
  const byKey = 'Index Cond: ((environment_id = k.environment_id) AND (id = k.id))';
  expect(plans).toEqual([expect.stringContaining(byKey), expect.stringContaining(byKey)]);
});

it('what was left behind is found without a look at what is settled', async () => {
  const database = await openTestDatabase();
  const { db } = database;
  await pay(db, 'one', 20_000, 'settled');
  await pay(db, 'left', 3, 'responded');
  await db.query('ANALYZE payments');
  const tuples = await countRead(database, 'payments', async (sql) => {
    expect(await takeAbandoned(sql, { network, respondedForSeconds: 0, limit: 200 })).toHaveLength(3);
  });
  expect(tuples).toBeLessThan(100);
});

/** Each table that is swept: what fills it with a row of number `i`, of the time `at`; and its sweep. */
const sweeps: [table: string, row: string, sweep: (db: Database) => Promise<unknown>][] = [
  [
    'outbox',
    "INSERT INTO outbox (environment_id, topic, payload, created_at) SELECT 'env', 'news', '{}', at",
    (db) => sweepOutbox(testContext(db), ['news']),
  ],
  [
    'idempotency_keys',
    `INSERT INTO idempotency_keys (environment_id, actor_id, key, operation, fingerprint, created_at)
     SELECT 'env', 'actor', i::text, 'pay', '', at`,
    (db) => sweepIdempotencyKeys(testContext(db)),
  ],
  [
    'stored_responses',
    `INSERT INTO stored_responses (environment_id, payment_id, status, sealed, body_hash, created_at, expires_at)
     SELECT 'env', i::text, 200, '', sha256(''), at, at`,
    (db) => sweepStoredResponses(db, new Date()),
  ],
  [
    'failed_attempts',
    'INSERT INTO failed_attempts (key, count, last_at) SELECT i::text, 1, at',
    (db) => sweepFailures(db, new Date()),
  ],
  [
    'counted_refusals',
    `INSERT INTO counted_refusals (agent_id, environment_id, count, began_at) SELECT i::text, 'env', 1, at`,
    (db) => sweepRefusals(testContext(db)),
  ],
  [
    'used_proofs',
    'INSERT INTO used_proofs (id, expires_at) SELECT sha256(i::text::bytea), at',
    (db) => sweepProofs(testContext(db)),
  ],
  [
    'revoked_access_tokens',
    `INSERT INTO revoked_access_tokens (jti, agent_id, expires_at, revoked_at)
     SELECT i::text, gen_random_uuid(), at, now()`,
    (db) => sweepRevokedTokens(db, new Date()),
  ],
];

it.each(sweeps)(
  'what is old in %s is swept without a look at all that is young',
  async (table, row, sweep) => {
    const database = await openTestDatabase();
    const { db } = database;
    const young = "SELECT i, now() + interval '1 day' AS at FROM generate_series(1, 20000) i";
    const old = "SELECT -i, now() - interval '30 days' FROM generate_series(1, 5) i";
    await db.query(`${row} FROM (${young} UNION ALL ${old}) rows`);
    await db.query(`ANALYZE ${table}`);
    expect(await countRead(database, table, sweep)).toBeLessThan(100);
    const isKept = table === 'stored_responses' ? 'WHERE sealed IS NOT NULL' : '';
    expect(await db.query(`SELECT count(*)::int AS count FROM ${table} ${isKept}`)).toEqual([
      { count: 20_000 },
    ]);
  },
);
