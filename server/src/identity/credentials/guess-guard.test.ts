import { beforeEach, describe, expect, it } from 'vitest';
import { openTestDatabase } from '../../../test/helpers/database.ts';
import type { Database } from '../../db/index.ts';
import { addSeconds, systemClock } from '../../kernel/clock.ts';
import { AppError } from '../../kernel/errors.ts';
import { newId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { type Attempt, createGuessGuard, type GuessGuard } from './guess-guard.ts';

const { db } = await openTestDatabase();
const start = new Date('2026-11-22T10:00:00Z');
const victim = newId('client');
let guard: GuessGuard;
beforeEach(async () => {
  await db.query('TRUNCATE failed_attempts, counted_refusals');
  guard = newGuard();
});

/** What a process has. */
function newGuard(over: Database = db): GuessGuard {
  return createGuessGuard({ db: over, clock: systemClock });
}

const at = (address: string, clientId: string = victim) => ({ address, clientId });
const later = (seconds: number) => addSeconds(start, seconds);

/** One that fails: the seconds to wait, or 0 where it is counted. */
async function waitOf(attempt: Attempt, now = start, by = guard): Promise<number> {
  const origin = { actor: { kind: 'anonymous', id: 'anonymous' }, requestId: null } as const;
  try {
    await by.failed(attempt, now, {
      origin: { ...origin, clientAddress: attempt.address },
      action: 'agent.token_refused',
      clientName: attempt.clientId,
      method: 'client_secret_post',
    });
    return 0;
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'rate_limited') throw error;
    return error.details.retryAfterSeconds ?? -1;
  }
}

/** So many failures that are counted, as soon after one another as they may come; gives when the last came. */
async function fail(times: number, attempt: Attempt, now = start, by = guard): Promise<Date> {
  let time = now;
  for (let index = 0; index < times; index += 1)
    for (let wait = await waitOf(attempt, time, by); wait > 0; wait = await waitOf(attempt, time, by))
      time = addSeconds(time, wait);
  return time;
}

describe('who guesses credentials', () => {
  it('waits after the sixth failure for a client, twice as long each time, a minute at most', async () => {
    let now = await fail(6, at('192.0.2.1'));
    expect(now).toEqual(start);
    for (const expected of [1, 2, 4, 8, 16, 32, 60, 60]) {
      expect(await waitOf(at('192.0.2.1'), now)).toBe(expected);
      expect(await waitOf(at('192.0.2.1'), addSeconds(now, expected - 1))).toBe(1);
      now = addSeconds(now, expected);
      expect(await waitOf(at('192.0.2.1'), now)).toBe(0);
    }
  });

  it('many times at once is refused as if it came one after another', async () => {
    const waits = await Promise.all(Array.from({ length: 400 }, () => waitOf(at('192.0.2.1'))));
    expect(waits.filter((wait) => wait === 0)).toHaveLength(6);
  });

  it('waits after the twenty-first failure for whichever clients, and success for one of them forgives no others', async () => {
    for (let index = 0; index < 21; index += 1) await fail(1, at('192.0.2.1', newId('client')));
    guard.succeeded(at('192.0.2.1', newId('client')));
    expect(await waitOf(at('192.0.2.1', newId('client')))).toBe(1);
  });

  it('from one /64 of IPv6 is one, from another is another', async () => {
    await fail(6, at('2001:db8:0:1::1'));
    expect(await waitOf(at('2001:db8:0:1:ffff::2'))).toBe(1);
    expect(await waitOf(at('2001:db8:0:2::1'))).toBe(0);
  });

  it('from ever new addresses waits from the second failure of each on, once the client was failed for often', async () => {
    for (let index = 0; index < 25; index += 1) await fail(1, at(`198.51.100.${index}`));
    expect(await waitOf(at('198.51.100.3'))).toBeGreaterThan(1);
    expect(await waitOf(at('203.0.113.1'))).toBe(0);
  });

  it('with names that no client has is counted once, however long they are', async () => {
    for (let index = 0; index < 6; index += 1) await fail(1, at('192.0.2.1', `${index}`.padEnd(10_000, 'x')));
    expect(await waitOf(at('192.0.2.1', 'y'.repeat(10_000)))).toBe(1);
  });

  it('is forgotten after a quiet quarter of an hour', async () => {
    const last = await fail(10, at('192.0.2.1'));
    const quiet = addSeconds(last, limits.guessMemorySeconds);
    expect(await fail(6, at('192.0.2.1'), quiet)).toEqual(quiet);
  });

  it('has little looked up once it waits, and those who share its address have that much', async () => {
    const looks = (count: number, now: Date, address = '192.0.2.1') =>
      Array.from({ length: count }, () => {
        try {
          guard.admit(at(address, newId('client')), now);
          return 1;
        } catch {
          return 0;
        }
      }).filter(Boolean).length;
    for (let index = 0; index < 20; index += 1) await fail(1, at('192.0.2.1', newId('client')));
    expect(looks(1000, start)).toBe(1000);
    await fail(2, at('192.0.2.1', newId('client')));
    const waiting = later(1);
    expect(looks(1000, waiting)).toBe(limits.looksWhileWaiting);
    expect(looks(1000, later(2))).toBe(limits.looksWhileWaiting);
    expect(looks(1000, waiting, '192.0.2.2')).toBe(1000);
  });
});

it('who guesses while other failures are being written gets no more tries than who guesses alone', async () => {
  const waits: number[] = [];
  const guessAgain = async (times: number) => {
    for (let index = 0; index < times; index += 1) waits.push(await waitOf(at('192.0.2.1')));
  };
  await Promise.all(Array.from({ length: 50 }, () => guessAgain(10)));
  expect(waits.filter((wait) => wait === 0).length).toBeLessThanOrEqual(6);
});

it('a clock that is set back makes nobody wait for as long as it was ahead', async () => {
  await fail(6, at('192.0.2.1'), later(600));
  const other = newGuard();
  await fail(1, at('192.0.2.1'), start, other);
  expect(await waitOf(at('192.0.2.1'), later(1), other)).toBeLessThanOrEqual(limits.guessWaitSecondsMax);
});

it('that was stopped takes a success, which has nothing left to forgive', async () => {
  await fail(1, at('192.0.2.7'));
  await guard.stop();
  expect(() => guard.succeeded(at('192.0.2.7'))).not.toThrow();
});

describe('an owner', () => {
  it('is let through from an address without failures, whatever strangers do', async () => {
    const strangers = Array.from({ length: 5_000 }, (_, index) => `10.0.${index % 200}.${index % 250}`);
    await Promise.all(strangers.map((address) => waitOf(at(address))));
    expect(await waitOf(at('192.0.2.7'))).toBe(0);
  });

  it('who mistyped once among guessers waits a minute at most, which no stranger prolongs', async () => {
    for (let index = 0; index < 100; index += 1) await fail(1, at(`198.51.100.${index}`));
    await fail(1, at('192.0.2.7'));
    for (let index = 0; index < 100; index += 1) await fail(1, at(`203.0.113.${index}`), later(59));
    expect(await waitOf(at('192.0.2.7'), later(59))).toBe(1);
    expect(await waitOf(at('192.0.2.7'), later(60))).toBe(0);
  });

  it('is forgiven what it mistyped for a client once it gets that right', async () => {
    await fail(5, at('192.0.2.7'));
    guard.succeeded(at('192.0.2.7'));
    await fail(5, at('192.0.2.7'));
    expect(await waitOf(at('192.0.2.7'))).toBe(0);
  });
});

/** How often a caller gets to try in a quarter of an hour that asks each process each second. */
async function countTries(processes: readonly GuessGuard[]): Promise<number> {
  let tries = 0;
  for (let second = 0; second < limits.guessMemorySeconds; second += 1)
    for (const by of processes) if ((await waitOf(at('192.0.2.1'), later(second), by)) === 0) tries += 1;
  return tries;
}

describe('over several processes', () => {
  it('who guesses gets one try more of each further one, and no more', async () => {
    const alone = await countTries([newGuard()]);
    await db.query('TRUNCATE failed_attempts');
    const among = await countTries([newGuard(), newGuard(), newGuard()]);
    expect(alone).toBeGreaterThan(10);
    expect(among).toBeGreaterThanOrEqual(alone);
    expect(among).toBeLessThanOrEqual(alone + 2);
  });

  it('who was failed for elsewhere waits here from the first failure on', async () => {
    const now = await fail(9, at('192.0.2.1'));
    const other = newGuard();
    expect(await waitOf(at('192.0.2.1'), now, other)).toBe(0);
    expect(await waitOf(at('192.0.2.1'), now, other)).toBe(16);
  });

  it('what is forgiven in one is forgiven in all', async () => {
    await fail(5, at('192.0.2.7'));
    guard.succeeded(at('192.0.2.7'));
    await guard.stop();
    const other = newGuard();
    expect(await fail(6, at('192.0.2.7'), start, other)).toEqual(start);
  });
});

describe('who waits no more', () => {
  it('fails once: the others wait again', async () => {
    await fail(6, at('192.0.2.1'));
    const waits = await Promise.all(Array.from({ length: 20 }, () => waitOf(at('192.0.2.1'), later(2))));
    expect(waits.filter((wait) => wait === 0)).toHaveLength(1);
  });
});

const refuse = () => Promise.reject(new Error('asked'));

it('a success of who failed nothing asks the database nothing, nor does its admission', async () => {
  const refusing: Database = { ...db, connect: refuse, query: refuse, transaction: refuse };
  const idle = newGuard(refusing);
  idle.admit(at('192.0.2.7'), start);
  idle.succeeded(at('192.0.2.7'));
  await idle.stop();
  await expect(waitOf(at('192.0.2.7'), start, newGuard(refusing))).rejects.toThrow('asked');
});
