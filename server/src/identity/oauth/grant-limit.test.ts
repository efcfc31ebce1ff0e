import { describe, expect, it } from 'vitest';
import { addSeconds } from '../../kernel/clock.ts';
import { newAgentId, newId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { createGrantLimit } from './grant-limit.ts';

const start = new Date('2026-11-22T10:00:00Z');
const limit = createGrantLimit();

/** How many of so many grants are let through. */
function grant(times: number, id: ReturnType<typeof newAgentId>, home = false, now = start): number {
  const agent = { homeEnvironmentId: home ? newId('environment') : null };
  return Array.from({ length: times }, () => {
    try {
      limit.admit(agent, id, now);
      return 1;
    } catch {
      return 0;
    }
  }).filter(Boolean).length;
}

describe('grants', () => {
  it('of an agent that registered itself are bounded by the minute, each agent by itself', () => {
    const [one, other] = [newAgentId(), newAgentId()];
    expect(grant(1000, one)).toBe(limits.homelessGrantsPerMinute);
    expect(grant(1, other)).toBe(1);
    expect(grant(1, one, false, addSeconds(start, 59))).toBe(0);
    expect(grant(1000, one, false, addSeconds(start, 60))).toBe(limits.homelessGrantsPerMinute);
  });

  it('of an agent with an owner are not', () => {
    expect(grant(10_000, newAgentId(), true)).toBe(10_000);
  });
});
