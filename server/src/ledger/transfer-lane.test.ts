import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { openTestDatabase, testContext } from '../../test/helpers/database.ts';
import { type Database, type Origin, type Transaction, write } from '../db/index.ts';
import { systemClock } from '../kernel/clock.ts';
import { type EnvironmentId, newId } from '../kernel/ids.ts';
import {
  type AccountName,
  balanceOf,
  createTransferLane,
  findDiscrepancies,
  type Movement,
  type Operation,
  post,
  reserve,
  transfer,
  type TransferResult,
  voidTransfer,
} from './index.ts';

let db: Database;
beforeAll(async () => {
  ({ db } = await openTestDatabase());
  await db.query('CREATE TABLE notes (key text PRIMARY KEY, note text NOT NULL, result text NOT NULL)');
});

const origin: Origin = { actor: { kind: 'system', id: 'test' }, requestId: 'req', clientAddress: '::1' };
const issued: AccountName = { environmentId: 'instance', kind: 'issued' };

function accountOf(environmentId: EnvironmentId): AccountName {
  return { environmentId, kind: 'available' };
}

function movement(
  debit: AccountName,
  credit: AccountName,
  amount: bigint,
  key: string = randomUUID(),
): Movement {
  return { key, debit, credit, currency: 'USDC', amount };
}

async function inWrite(
  change: (sql: Transaction, now: Date) => Promise<TransferResult>,
): Promise<TransferResult> {
  return write(testContext(db), async (sql, now) => ({ result: await change(sql, now), audit: null }));
}

async function fund(amount: bigint): Promise<AccountName> {
  const account = accountOf(newId('environment'));
  await inWrite((sql, now) => transfer(sql, movement(issued, account, amount), now));
  return account;
}

function balance(account: AccountName) {
  return balanceOf(db, { ...account, currency: 'USDC' });
}

async function rowsWith(table: string, column: string, value: string): Promise<object[]> {
  return db.query(`SELECT * FROM ${table} WHERE ${column} = $1`, [value]);
}

async function isAnyoneWaiting(): Promise<boolean> {
  const rows = await db.query(
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
  );
  return rows.length > 0;
}

/** Runs one, and the other beside it until that waits for the first, which then commits. */
async function interleave(first: Movement, second: Movement): Promise<TransferResult> {
  let waiting: Promise<TransferResult> | undefined;
  await inWrite(async (sql, now) => {
    const result = await transfer(sql, first, now);
    // What was sent before it is done when this is.
    await sql.query('SELECT 1');
    waiting = inWrite((other, at) => transfer(other, second, at));
    waiting.catch(() => undefined);
    await vi.waitUntil(isAnyoneWaiting, { timeout: 10_000 });
    return result;
  });
  if (!waiting) throw new Error('the second has begun');
  return waiting;
}

describe('in a write()', () => {
  it('reserves, posts a part and gives back the rest', async () => {
    const [payer, payee] = [await fund(100n), accountOf(newId('environment'))];
    const { key, ...rest } = movement(payer, payee, 60n);
    const name = { environmentId: payer.environmentId, key };
    await inWrite((sql, now) => reserve(sql, { key, ...rest }, now));
    expect(await balance(payer)).toEqual({ balance: 100n, held: 60n });
    expect(await balance(payee)).toEqual({ balance: 0n, held: 0n });
    const refused = await inWrite((sql, now) => transfer(sql, movement(payer, payee, 41n), now));
    expect(refused).toEqual({ kind: 'insufficient_funds', available: 40n });

    const posted = await inWrite((sql, now) => post(sql, { ...name, amount: 25n }, now));
    expect(posted).toEqual({ kind: 'ok', state: 'posted', amount: 25n });
    expect(await balance(payer)).toEqual({ balance: 75n, held: 0n });
    expect(await balance(payee)).toEqual({ balance: 25n, held: 0n });
    const late = await inWrite((sql, now) => voidTransfer(sql, name, now));
    expect(late).toEqual({ kind: 'conflict', reason: 'already_posted' });
  });

  it('voids what was reserved', async () => {
    const payer = await fund(100n);
    const reserved = movement(payer, issued, 100n);
    await inWrite((sql, now) => reserve(sql, reserved, now));
    const name = { environmentId: payer.environmentId, key: reserved.key };
    expect(await inWrite((sql, now) => voidTransfer(sql, name, now))).toMatchObject({ state: 'voided' });
    expect(await balance(payer)).toEqual({ balance: 100n, held: 0n });
  });

  it('refuses what no caller may ask for', async () => {
    const payer = await fund(1n);
    for (const wrong of [
      movement(payer, issued, 0n),
      movement(payer, issued, 1n, ''),
      movement(payer, { environmentId: 'instance', kind: 'available' }, 1n),
      movement({ ...payer, kind: 'issued' }, issued, 1n),
    ])
      await expect(inWrite((sql, now) => transfer(sql, wrong, now))).rejects.toThrow('assertion failed');
  });
});

describe('two transactions at once', () => {
  it('decide one after the other where they spend from one account', async () => {
    const payer = await fund(5n);
    const result = await interleave(movement(payer, issued, 3n), movement(payer, issued, 3n));
    expect(result).toEqual({ kind: 'insufficient_funds', available: 2n });
  });

  it('both count where they open one account', async () => {
    const [one, other, payee] = [await fund(3n), await fund(4n), accountOf(newId('environment'))];
    await interleave(movement(one, payee, 3n), movement(other, payee, 4n));
    expect(await balance(payee)).toEqual({ balance: 7n, held: 0n });
    expect(await findDiscrepancies(db)).toEqual([]);
  });
});

describe('the books', () => {
  it('only grow', async () => {
    await fund(1n);
    for (const statement of [
      'UPDATE ledger_transfers SET amount = 2',
      'DELETE FROM ledger_transfers',
      'DELETE FROM ledger_resolutions',
      'TRUNCATE ledger_resolutions',
    ])
      await expect(db.query(statement)).rejects.toThrow('only grows');
  });

  it.each([
    ['balance = balance + 1', ['balance equals the sum of entries', 'balances sum to zero']],
    ['held = held + 1', ['held equals the sum of pending transfers']],
  ])('are found wrong after %s', async (change, rules) => {
    const { environmentId } = await fund(10n);
    await expect(
      db.transaction(async (sql) => {
        await sql.query(`UPDATE ledger_accounts SET ${change} WHERE environment_id = $1`, [environmentId]);
        expect((await findDiscrepancies(sql)).map(({ rule }) => rule)).toEqual(rules);
        throw new Error('undo');
      }),
    ).rejects.toThrow('undo');
    expect(await findDiscrepancies(db)).toEqual([]);
  });

  it('refuse a balance below zero, whoever writes it', async () => {
    const { environmentId } = await fund(10n);
    const set = (change: string) =>
      db.query(`UPDATE ledger_accounts SET ${change} WHERE environment_id = $1`, [environmentId]);
    await expect(set('balance = -1')).rejects.toThrow('check constraint');
    await expect(set('held = 11')).rejects.toThrow('check constraint');
  });
});

describe('a lane', () => {
  it('gives each of many callers its own result, and commits them together', async () => {
    const lane = createTransferLane({ db, clock: systemClock });
    const [payer, payee] = [await fund(5n), accountOf(newId('environment'))];
    const results = await Promise.all(
      Array.from({ length: 8 }, () =>
        lane.submit({ kind: 'transfer', ...movement(payer, payee, 1n) }, origin, undefined),
      ),
    );
    expect(results.map(({ kind }) => kind)).toEqual([
      ...Array.from({ length: 5 }, () => 'ok'),
      ...Array.from({ length: 3 }, () => 'insufficient_funds'),
    ]);
    const times = await db.query(
      'SELECT DISTINCT created_at FROM ledger_transfers WHERE environment_id = $1',
      [payer.environmentId],
    );
    expect(times).toHaveLength(1);
  });

  it('writes one audit event for what changed something, and none for a refusal or a repetition', async () => {
    const lane = createTransferLane({ db, clock: systemClock });
    const payer = await fund(5n);
    const reserved: Operation = { kind: 'reserve', ...movement(payer, issued, 5n) };
    const posting: Operation = { kind: 'post', environmentId: payer.environmentId, key: reserved.key };
    const more: Operation = { kind: 'transfer', ...movement(payer, issued, 1n) };
    for (const operation of [reserved, reserved, more, posting, posting])
      await lane.submit(operation, origin, undefined);

    expect(await rowsWith('audit_events', 'resource', more.key)).toEqual([]);
    expect(await rowsWith('audit_events', 'resource', reserved.key)).toMatchObject([
      {
        action: 'transfer.reserved',
        environmentId: payer.environmentId,
        actorId: 'test',
        requestId: 'req',
        data: { amount: '5', currency: 'USDC', debit: payer, credit: issued },
      },
      { action: 'transfer.posted', data: { amount: '5' } },
    ]);
  });

  it('lets an operation that cannot be stored fail alone', async () => {
    const lane = createTransferLane({ db, clock: systemClock });
    const payer = await fund(10n);
    const keys = ['before', 'with \0 in it', 'after'].map((key) => `${key} ${randomUUID()}`);
    const results = await Promise.allSettled(
      keys.map((key) =>
        lane.submit({ kind: 'transfer', ...movement(payer, issued, 1n, key) }, origin, undefined),
      ),
    );
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(await balance(payer)).toEqual({ balance: 8n, held: 0n });
  });

  it('commits another room’s rows with the transfers, or neither', async () => {
    const lane = createTransferLane<string>({
      db,
      clock: systemClock,
      async alongside(sql, batch) {
        await sql.query('INSERT INTO notes SELECT * FROM unnest($1::text[], $2::text[], $3::text[])', [
          batch.map(({ operation }) => operation.key),
          batch.map(({ extra }) => extra),
          batch.map(({ result }) => result.kind),
        ]);
        if (batch.some(({ extra }) => extra === 'third')) throw new Error('no third');
        return batch.map(({ operation, actor, requestId, clientAddress }) => ({
          actor,
          requestId,
          clientAddress,
          scope: 'instance',
          action: 'note.written',
          resource: operation.key,
          data: {},
        }));
      },
    });
    const payer = await fund(2n);
    const one = movement(payer, issued, 2n);
    const two = movement(payer, issued, 1n);
    await Promise.all([
      lane.submit({ kind: 'transfer', ...one }, origin, 'first'),
      lane.submit({ kind: 'transfer', ...two }, origin, 'second'),
    ]);
    expect(await rowsWith('notes', 'key', one.key)).toMatchObject([{ note: 'first', result: 'ok' }]);
    expect(await rowsWith('notes', 'key', two.key)).toMatchObject([
      { note: 'second', result: 'insufficient_funds' },
    ]);
    expect(await rowsWith('audit_events', 'resource', one.key)).toMatchObject([{ action: 'note.written' }]);

    const richer = await fund(2n);
    const three = movement(richer, issued, 1n);
    await expect(lane.submit({ kind: 'transfer', ...three }, origin, 'third')).rejects.toThrow('no third');
    expect(await rowsWith('notes', 'key', three.key)).toEqual([]);
    expect(await balance(richer)).toEqual({ balance: 2n, held: 0n });
  });

  it('answers what it has when it is stopped, and takes no more', async () => {
    const lane = createTransferLane({ db, clock: systemClock });
    const payer = await fund(1n);
    let answered = false;
    const last = lane
      .submit({ kind: 'transfer', ...movement(payer, issued, 1n) }, origin, undefined)
      .then((result) => {
        answered = true;
        return result;
      });
    await lane.stop();
    expect(answered).toBe(true);
    expect((await last).kind).toBe('ok');
    await expect(
      lane.submit({ kind: 'transfer', ...movement(payer, issued, 1n) }, origin, undefined),
    ).rejects.toThrow('stopped');
  });
});
