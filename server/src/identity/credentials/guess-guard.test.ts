import { beforeEach, describe, expect, it } from 'vitest';
import { addSeconds } from '../../kernel/clock.ts';
import { AppError } from '../../kernel/errors.ts';
import { limits } from '../../kernel/limits.ts';
import { createGuessGuard, type GuessGuard } from './guess-guard.ts';

const start = new Date('2026-11-22T10:00:00Z');
let guard: GuessGuard;
beforeEach(() => {
  guard = createGuessGuard();
});

const at = (address: string, clientId = 'victim') => ({ address, clientId });
const later = (seconds: number) => addSeconds(start, seconds);

/** Seconds to wait; 0 where the attempt may be made. */
function waitOf(attempt: { address: string; clientId: string }, now = start): number {
  try {
    guard.admit(attempt, now);
    return 0;
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'rate_limited') throw error;
    return error.details.retryAfterSeconds ?? -1;
  }
}

function fail(times: number, attempt: { address: string; clientId: string }, now = start): void {
  for (let index = 0; index < times; index += 1) guard.failed(attempt, now);
}

describe('who guesses credentials', () => {
  it('waits after the fifth failure for a client, twice as long each time, a minute at most', () => {
    fail(5, at('192.0.2.1'));
    expect(waitOf(at('192.0.2.1'))).toBe(0);
    const waits = [1, 2, 4, 8, 16, 32, 60, 60].map((expected) => {
      fail(1, at('192.0.2.1'));
      return [waitOf(at('192.0.2.1')), expected];
    });
    for (const [wait, expected] of waits) expect(wait).toBe(expected);
    expect(waitOf(at('192.0.2.1'), later(59))).toBe(1);
    expect(waitOf(at('192.0.2.1'), later(60))).toBe(0);
  });

  it('waits after the twentieth failure for whichever clients, and success for one of them forgives no others', () => {
    for (let index = 0; index < 21; index += 1) fail(1, at('192.0.2.1', `client ${index}`));
    guard.succeeded(at('192.0.2.1', 'its own'));
    expect(waitOf(at('192.0.2.1', 'never tried'))).toBe(1);
  });

  it('from one /64 of IPv6 is one, from another is another', () => {
    fail(6, at('2001:db8:0:1::1'));
    expect(waitOf(at('2001:db8:0:1:ffff::2'))).toBe(1);
    expect(waitOf(at('2001:db8:0:2::1'))).toBe(0);
  });

  it('from ever new addresses waits from the second failure of each on, once the client was failed for often', () => {
    for (let index = 0; index < 25; index += 1) fail(1, at(`198.51.100.${index}`));
    expect(waitOf(at('198.51.100.3'))).toBeGreaterThan(1);
    expect(waitOf(at('203.0.113.1'))).toBe(0);
  });

  it('with names that no client has is counted once, however long they are', () => {
    for (let index = 0; index < 6; index += 1) fail(1, at('192.0.2.1', `${index}`.padEnd(10_000, 'x')));
    expect(waitOf(at('192.0.2.1', 'y'.repeat(10_000)))).toBe(1);
  });

  it('is forgotten after a quiet quarter of an hour', () => {
    fail(30, at('192.0.2.1'));
    expect(waitOf(at('192.0.2.1'), later(limits.guessMemorySeconds))).toBe(0);
    fail(1, at('192.0.2.1'), later(limits.guessMemorySeconds));
    expect(waitOf(at('192.0.2.1'), later(limits.guessMemorySeconds))).toBe(0);
  });
});

describe('an owner', () => {
  it('is let through from an address without failures, whatever strangers do', () => {
    for (let index = 0; index < 5_000; index += 1) fail(1, at(`10.0.${index % 200}.${index % 250}`));
    expect(waitOf(at('192.0.2.7'))).toBe(0);
  });

  it('who mistyped once among guessers waits a minute at most, which no stranger prolongs', () => {
    for (let index = 0; index < 100; index += 1) fail(1, at(`198.51.100.${index}`));
    fail(1, at('192.0.2.7'));
    fail(100, at('198.51.100.200'), later(59));
    expect(waitOf(at('192.0.2.7'), later(59))).toBe(1);
    expect(waitOf(at('192.0.2.7'), later(60))).toBe(0);
  });

  it('is forgiven what it mistyped for a client once it gets that right', () => {
    fail(5, at('192.0.2.7'));
    guard.succeeded(at('192.0.2.7'));
    fail(5, at('192.0.2.7'));
    expect(waitOf(at('192.0.2.7'))).toBe(0);
  });
});
