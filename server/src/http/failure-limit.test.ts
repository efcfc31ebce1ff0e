import { beforeAll, describe, expect, it } from 'vitest';
import { openTestDatabase } from '../../test/helpers/database.ts';
import { createSharedCounts, type Database } from '../db/index.ts';
import { addSeconds } from '../kernel/clock.ts';
import { limits } from '../kernel/limits.ts';
import { createFailureLimit } from './failure-limit.ts';
import { rateLimits } from './route.ts';

let db: Database;
beforeAll(async () => {
  ({ db } = await openTestDatabase());
});

const start = new Date('2026-11-22T10:00:00Z');

/** How many of so many runs end well. */
async function count(times: number, run: () => unknown): Promise<number> {
  let good = 0;
  for (let index = 0; index < times; index += 1)
    await Promise.try(run).then(
      () => (good += 1),
      () => undefined,
    );
  return good;
}

let addresses = 0;

/** A limit with a clock of its own, and an address that nobody else has. */
function openLimit() {
  let now = start;
  const clock = { now: () => now };
  const limit = createFailureLimit({ counts: createSharedCounts({ db, clock }), clock });
  const own = `192.0.2.${(addresses += 1)}`;
  return {
    limit,
    own,
    async pass(seconds: number) {
      now = addSeconds(now, seconds);
      await db.query('UPDATE shared_counts SET ends_at = ends_at - make_interval(secs => $1)', [seconds]);
    },
    fail: (times: number, address = own) => count(times, () => limit.failed(address, 'wrong')),
    look: (times: number, credential: string, address = own) =>
      count(times, () => limit.admit(address, credential)),
  };
}

describe('wrong credentials', () => {
  it('are counted by address, or /64, for a minute', async () => {
    const { fail, pass } = openLimit();
    expect(await fail(1000)).toBe(rateLimits.credential);
    expect(await fail(1, '198.51.100.2')).toBe(1);
    const inOneNetwork = (await fail(1000, '2001:db8:0:1::1')) + (await fail(1000, '2001:db8:0:1::2'));
    expect(inOneNetwork).toBe(rateLimits.credential);
    await pass(50);
    expect(await fail(1)).toBe(0);
    await pass(10);
    expect(await fail(1000)).toBe(rateLimits.credential);
  });

  it('have few more looked up, and what was good before is looked up always', async () => {
    const { limit, fail, look, pass } = openLimit();
    limit.succeeded('known');
    expect(await look(1000, 'other')).toBe(1000);
    await fail(1000);
    expect(await look(1000, 'other')).toBe(limits.looksWhileWaiting);
    expect(await look(1000, 'known')).toBe(1000);
    expect(await look(1000, 'other', '198.51.100.3')).toBe(1000);
    await pass(1);
    expect(await look(1000, 'other')).toBe(limits.looksWhileWaiting);
    await pass(60);
    expect(await look(1000, 'other')).toBe(1000);
  });

  it('that were good once have no more looked up than others', async () => {
    const { limit, own, fail, look } = openLimit();
    limit.succeeded('revoked');
    await fail(1000);
    await expect(limit.failed(own, 'revoked')).rejects.toThrow('Too many');
    expect(await look(1000, 'revoked')).toBe(limits.looksWhileWaiting);
  });

  it('say how long to wait', async () => {
    const { limit, own, fail, pass } = openLimit();
    await fail(1000);
    await pass(20);
    const refused = await limit.failed(own, 'wrong').catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'rate_limited' });
    const { retryAfterSeconds } = (refused as { details: { retryAfterSeconds: number } }).details;
    // Whatever the database has taken to count them has passed of the minute as well.
    expect(retryAfterSeconds).toBeGreaterThan(0);
    expect(retryAfterSeconds).toBeLessThanOrEqual(40);
  });
});
