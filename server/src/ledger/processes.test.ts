import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestDatabase, testContext } from '../../test/helpers/database.ts';
import { type Database, write } from '../db/index.ts';
import { type EnvironmentId, newId } from '../kernel/ids.ts';
import { balanceOf, findDiscrepancies, transfer } from './index.ts';
import type { Order } from './ledger.fixture.ts';

let db: Database;
let url: string;
beforeAll(async () => {
  ({ db, url } = await openTestDatabase());
});

const started: ChildProcess[] = [];
afterAll(() => started.forEach((child) => child.kill('SIGKILL')));

interface Worker {
  process: ChildProcess;
  /** What it has said so far: `key result state`. */
  lines: string[];
  /** Resolves when it has ended, in whatever way. */
  ended: Promise<unknown>;
}

async function start(order: Order): Promise<Worker> {
  const fixture = new URL('ledger.fixture.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [fixture, url, JSON.stringify(order)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  started.push(child);
  const lines: string[] = [];
  const output = createInterface({ input: child.stdout });
  const ended = once(output, 'close');
  await once(output, 'line');
  output.on('line', (line) => lines.push(line));
  return { process: child, lines, ended };
}

/** Starts a process for each order, lets them begin at one moment, and waits until all have ended. */
async function runTogether(orders: readonly Order[]): Promise<string[]> {
  const workers = await Promise.all(orders.map(start));
  for (const worker of workers) worker.process.stdin?.write('go\n');
  await Promise.all(workers.map(({ ended }) => ended));
  return workers.flatMap(({ lines }) => lines);
}

/** New environments, each with this many credits. */
async function fund(count: number, amount: bigint): Promise<EnvironmentId[]> {
  const environments = Array.from({ length: count }, () => newId('environment'));
  for (const environmentId of environments) {
    if (amount === 0n) continue;
    await write(testContext(db), async (sql, now) => ({
      result: await transfer(
        sql,
        {
          key: `fund ${environmentId}`,
          debit: { environmentId: 'instance', kind: 'issued' },
          credit: { environmentId, kind: 'available' },
          currency: 'USDC',
          amount,
        },
        now,
      ),
      audit: null,
    }));
  }
  return environments;
}

function creditsOf(environmentId: EnvironmentId | undefined) {
  if (!environmentId) throw new Error('no such environment');
  return balanceOf(db, { environmentId, kind: 'available', currency: 'USDC' });
}

async function countRows(table: string, column: string, prefix: string): Promise<number> {
  const [row] = await db.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM ${table} WHERE starts_with(${column}, $1)`,
    [prefix],
  );
  return row?.n ?? -1;
}

const countOf = (lines: readonly string[], ending: string) =>
  lines.filter((line) => line.endsWith(ending)).length;

describe('invariant 5, with several processes on the same accounts', () => {
  it('four of them end with exact sums, and one audit event for each change', async () => {
    const environments = await fund(4, 1_000n);
    const lines = await runTogether(
      ['a', 'b', 'c', 'd'].map((name) => ({
        prefix: `${name}/`,
        count: 150,
        concurrency: 16,
        work: 'cycle',
        environments,
      })),
    );
    expect(countOf(lines, ' ok pending')).toBe(600);
    expect(countOf(lines, ' ok posted')).toBe(400);
    expect(countOf(lines, ' ok voided')).toBe(200);

    // What 150 cycles of each process moved, counted without the ledger.
    const expected = environments.map(() => 1_000n);
    const add = (index: number, amount: bigint) => {
      expected[index % 4] = (expected[index % 4] ?? 0n) + amount;
    };
    for (let index = 0; index < 150; index += 1) {
      const moved = 4n * ([BigInt(2 + (index % 5)), 1n, 0n][index % 3] ?? 0n);
      add(index, -moved);
      add(index + 1, moved);
    }
    for (const [index, environment] of environments.entries())
      expect(await creditsOf(environment)).toEqual({ balance: expected[index], held: 0n });
    expect(await findDiscrepancies(db)).toEqual([]);
    for (const name of ['a', 'b', 'c', 'd'])
      expect(await countRows('audit_events', 'resource', `${name}/`)).toBe(300);
  });

  it('a balance of 100 pays for exactly 100 of 1000 concurrent transfers', async () => {
    const [payer] = await fund(1, 100n);
    const [payee] = await fund(1, 0n);
    if (!payer || !payee) throw new Error('no accounts');
    const order = { count: 500, concurrency: 500, work: 'spend' as const, environments: [payer, payee] };
    const lines = await runTogether([
      { ...order, prefix: 'cap one/' },
      { ...order, prefix: 'cap two/' },
    ]);
    expect(countOf(lines, ' ok posted')).toBe(100);
    expect(countOf(lines, ' insufficient_funds -')).toBe(900);
    expect(await creditsOf(payer)).toEqual({ balance: 0n, held: 0n });
    expect(await creditsOf(payee)).toEqual({ balance: 100n, held: 0n });
    expect(await findDiscrepancies(db)).toEqual([]);
  });

  it('the same keys from two processes move the money once, and both are told', async () => {
    const environments = await fund(2, 1_000n);
    const order: Order = { prefix: 'same/', count: 300, concurrency: 32, work: 'spend', environments };
    const lines = await runTogether([order, order]);
    expect(countOf(lines, ' ok posted')).toBe(300);
    expect(countOf(lines, ' duplicate posted')).toBe(300);
    expect(await countRows('ledger_transfers', 'key', 'same/')).toBe(300);
    expect(await creditsOf(environments[1])).toEqual({ balance: 1_300n, held: 0n });
    expect(await findDiscrepancies(db)).toEqual([]);
  });

  it('SIGKILL of one in the middle loses nothing acknowledged, and its work can be given again', async () => {
    const environments = await fund(2, 20_000n);
    const order: Order = { prefix: 'kill/', count: 10_000, concurrency: 16, work: 'spend', environments };
    const other: Order = { ...order, prefix: 'alive/', count: 1_000 };
    const [victim, survivor] = await Promise.all([start(order), start(other)]);
    victim.process.stdin?.write('go\n');
    survivor.process.stdin?.write('go\n');
    while (victim.lines.length < 200) await new Promise((resolve) => setTimeout(resolve, 5));
    victim.process.kill('SIGKILL');
    await Promise.all([victim.ended, survivor.ended]);

    const acknowledged = victim.lines.filter((line) => line.endsWith(' ok posted'));
    expect(acknowledged.length).toBeGreaterThanOrEqual(200);
    expect(acknowledged.length).toBeLessThan(10_000);
    const keys = acknowledged.map((line) => line.split(' ')[0]);
    const kept = await db.query('SELECT key FROM ledger_transfers WHERE key = ANY($1)', [keys]);
    expect(kept).toHaveLength(keys.length);
    expect(await findDiscrepancies(db)).toEqual([]);

    await runTogether([{ ...order, count: keys.length + 500 }]);
    expect(await countRows('ledger_transfers', 'key', 'kill/')).toBe(keys.length + 500);
    expect(await creditsOf(environments[1])).toEqual({
      balance: 20_000n + 1_000n + BigInt(keys.length + 500),
      held: 0n,
    });
    expect(await findDiscrepancies(db)).toEqual([]);
  });
});
