import { beforeAll, describe, expect, it } from 'vitest';
import { openTestDatabase } from '../../../test/helpers/database.ts';
import { createSharedCounts, type Database } from '../../db/index.ts';
import { systemClock } from '../../kernel/clock.ts';
import { newAgentId, newId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { createGrantLimit, type GrantLimit } from './grant-limit.ts';

let db: Database;
let one: GrantLimit;
let other: GrantLimit;
const open = () => createGrantLimit({ counts: createSharedCounts({ db, clock: systemClock }) });
beforeAll(async () => {
  ({ db } = await openTestDatabase());
  [one, other] = [open(), open()];
});

/** How many of so many grants are let through. */
async function grant(limit: GrantLimit, times: number, id = newAgentId(), home = false): Promise<number> {
  const agent = { homeEnvironmentId: home ? newId('environment') : null };
  const ends = await Promise.allSettled(Array.from({ length: times }, () => limit.admit(agent, id)));
  return ends.filter(({ status }) => status === 'fulfilled').length;
}

describe('grants', () => {
  it('of an agent that registered itself are bounded by the minute, each agent by itself', async () => {
    const id = newAgentId();
    expect(await grant(one, 1000, id)).toBe(limits.homelessGrantsPerMinute);
    expect(await grant(one, 1)).toBe(1);
    const refused = await one.admit({ homeEnvironmentId: null }, id).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'rate_limited' });
  });

  it('are counted by all processes together', async () => {
    const id = newAgentId();
    expect(await grant(one, 1000, id)).toBe(limits.homelessGrantsPerMinute);
    const unwritten = limits.homelessGrantsPerMinute * limits.unwrittenShare;
    expect(await grant(other, 1000, id)).toBeLessThanOrEqual(unwritten);
  });

  it('of an agent with an owner are not', async () => {
    expect(await grant(one, 10_000, newAgentId(), true)).toBe(10_000);
  });
});
