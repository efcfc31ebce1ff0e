/*
 * A process that moves money, for tests that run several: `node ledger.fixture.ts <database url> <order>`. It says `ready`,
 * begins at the first line that it is told, says each result as soon as it has it, and ends.
 */
import { once } from 'node:events';
import { openDatabase, type Origin } from '../db/index.ts';
import { systemClock } from '../kernel/clock.ts';
import type { EnvironmentId } from '../kernel/ids.ts';
import { createTransferLane, type Operation } from './index.ts';

export interface Order {
  /** Keys are this with a number, so that two processes may be given the same ones. */
  prefix: string;
  count: number;
  concurrency: number;
  /** `spend`: one credit each from the first to the last. `cycle`: from each to the next, reserved and then ended. */
  work: 'spend' | 'cycle';
  environments: EnvironmentId[];
}

const origin: Origin = { actor: { kind: 'system', id: 'test' }, requestId: null, clientAddress: null };
const currency = 'USDC';
const [, , url = '', text = '{}'] = process.argv;
const order = JSON.parse(text) as Order;
const db = openDatabase(url, { poolSize: 2, onError: () => undefined });
const lane = createTransferLane({ db, clock: systemClock });

await db.query('SELECT 1');
process.stdout.write('ready\n');
await once(process.stdin, 'data');
process.stdin.destroy();

const indices = Array.from({ length: order.count }, (_, index) => index).values();
await Promise.all(Array.from({ length: order.concurrency }, work));
await lane.stop();
await db.close();

/** One caller among several, each of which waits for its result before it goes on. */
async function work(): Promise<void> {
  for (const index of indices) await (order.work === 'spend' ? spend(index) : cycle(index));
}

async function spend(index: number): Promise<void> {
  await submit({ kind: 'transfer', ...movement(index, 0, order.environments.length - 1, 1n) });
}

async function cycle(index: number): Promise<void> {
  const amount = BigInt(2 + (index % 5));
  const moved = movement(index, index, index + 1, amount);
  const { environmentId } = moved.debit;
  const { key } = moved;
  if (!(await submit({ kind: 'reserve', ...moved }))) return;
  if (index % 3 === 0) await submit({ kind: 'post', environmentId, key });
  if (index % 3 === 1) await submit({ kind: 'post', environmentId, key, amount: 1n });
  if (index % 3 === 2) await submit({ kind: 'void', environmentId, key });
}

function movement(index: number, from: number, to: number, amount: bigint) {
  return {
    key: `${order.prefix}${index}`,
    debit: { environmentId: environmentAt(from), kind: 'available' as const },
    credit: { environmentId: environmentAt(to), kind: 'available' as const },
    currency,
    amount,
  };
}

function environmentAt(index: number): EnvironmentId {
  const environment = order.environments[index % order.environments.length];
  if (!environment) throw new Error('the order names no environment');
  return environment;
}

async function submit(operation: Operation): Promise<boolean> {
  const result = await lane.submit(operation, origin, undefined);
  const state = 'state' in result ? result.state : '-';
  process.stdout.write(`${operation.key} ${result.kind} ${state}\n`);
  return result.kind === 'ok';
}
