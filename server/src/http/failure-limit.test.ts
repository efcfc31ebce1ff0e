import { describe, expect, it } from 'vitest';
import { addSeconds } from '../kernel/clock.ts';
import { limits } from '../kernel/limits.ts';
import { createFailureLimit } from './failure-limit.ts';
import { rateLimits } from './route.ts';

const start = new Date('2026-11-22T10:00:00Z');

/** How many of so many runs end well. */
function count(times: number, run: () => void): number {
  return Array.from({ length: times }, () => {
    try {
      run();
      return 1;
    } catch {
      return 0;
    }
  }).filter(Boolean).length;
}

function openLimit() {
  let now = start;
  const limit = createFailureLimit({ now: () => now });
  return {
    limit,
    pass: (seconds: number) => (now = addSeconds(now, seconds)),
    fail: (times: number, address = '192.0.2.1') => count(times, () => limit.failed(address, 'wrong')),
    look: (times: number, credential: string, address = '192.0.2.1') =>
      count(times, () => limit.admit(address, credential)),
  };
}

describe('wrong credentials', () => {
  it('are counted by address, or /64, for a minute', () => {
    const { fail, pass } = openLimit();
    expect(fail(1000)).toBe(rateLimits.credential);
    expect(fail(1, '192.0.2.2')).toBe(1);
    expect(fail(1000, '2001:db8:0:1::1') + fail(1000, '2001:db8:0:1::2')).toBe(rateLimits.credential);
    pass(59);
    expect(fail(1)).toBe(0);
    pass(1);
    expect(fail(1000)).toBe(rateLimits.credential);
  });

  it('have few more looked up, and what was good before is looked up always', () => {
    const { limit, fail, look, pass } = openLimit();
    limit.succeeded('known');
    expect(look(1000, 'other')).toBe(1000);
    fail(1000);
    expect(look(1000, 'other')).toBe(limits.looksWhileWaiting);
    expect(look(1000, 'known')).toBe(1000);
    expect(look(1000, 'other', '192.0.2.2')).toBe(1000);
    pass(1);
    expect(look(1000, 'other')).toBe(limits.looksWhileWaiting);
    pass(60);
    expect(look(1000, 'other')).toBe(1000);
  });

  it('that were good once have no more looked up than others', () => {
    const { limit, fail, look } = openLimit();
    limit.succeeded('revoked');
    fail(1000);
    expect(() => limit.failed('192.0.2.1', 'revoked')).toThrow('Too many');
    expect(look(1000, 'revoked')).toBe(limits.looksWhileWaiting);
  });

  it('say how long to wait', () => {
    const { limit, fail, pass } = openLimit();
    fail(1000);
    pass(20);
    expect(() => limit.failed('192.0.2.1', 'wrong')).toThrow(
      expect.objectContaining({
        code: 'rate_limited',
        details: expect.objectContaining({ retryAfterSeconds: 40 }),
      }),
    );
  });
});
