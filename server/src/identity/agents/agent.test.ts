import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import type { EnvironmentId } from '../../kernel/ids.ts';
import {
  acceptsTokenOf,
  deactivated,
  isFamilyBeforeEpoch,
  isLive,
  newAgent,
  started,
  statusFor,
  tokenTime,
} from './agent.ts';

const now = new Date('2026-11-22T10:00:00.500Z');
const [home, other] = ['env_home', 'env_other'] as EnvironmentId[] as [EnvironmentId, EnvironmentId];
const agent = newAgent({ name: 'A', homeEnvironmentId: home }, now);
const homeless = newAgent({ name: 'B', homeEnvironmentId: null }, now);

/** What a stop by its home makes of it. */
const stopped = { status: 'suspended', suspendedAt: now, deactivatedAt: null } as const;

describe('an agent', () => {
  it.each([
    ['active', null, true],
    ['active', addSeconds(now, 1), true],
    ['active', now, false],
    ['active', addSeconds(now, -1), false],
    ['inactive', null, false],
    ['suspended', null, false],
  ] as const)('that is %s and ends %s is live: %s', (status, expiresAt, expected) => {
    expect(isLive({ status, expiresAt }, now)).toBe(expected);
  });

  it.each([
    ['before its last stop', -1, false],
    ['in the very second of it', 0, false],
    ['a second later', 1, true],
  ])('with a token issued %s: accepted is %s', (_when, seconds, expected) => {
    const state = { ...agent, tokensValidFrom: now };
    expect(acceptsTokenOf(state, unixSeconds(now) + seconds, addSeconds(now, 5))).toBe(expected);
  });

  it('takes no token while it is stopped, however new', () => {
    const state = { ...agent, ...stopped, tokensValidFrom: now };
    expect(acceptsTokenOf(state, unixSeconds(now) + 60, addSeconds(now, 60))).toBe(false);
  });

  it('gets tokens that it is let in with, in the second of its last stop as well', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5_000 }), (laterMs) => {
        const state = { ...agent, tokensValidFrom: now };
        const later = new Date(now.getTime() + laterMs);
        const iat = unixSeconds(tokenTime(state, later));
        expect(acceptsTokenOf(state, iat, later)).toBe(true);
        expect(iat - unixSeconds(later)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('loses the refresh families that began before its last stop, and no later ones', () => {
    const state = { tokensValidFrom: now };
    expect(isFamilyBeforeEpoch(state, addSeconds(now, -1))).toBe(true);
    expect(isFamilyBeforeEpoch(state, now)).toBe(true);
    expect(isFamilyBeforeEpoch(state, new Date(now.getTime() + 1))).toBe(false);
    expect(isFamilyBeforeEpoch({ tokensValidFrom: null }, now)).toBe(false);
  });
});

describe('an agent that is stopped for everybody', () => {
  it.each([
    ['its home', agent, home, 'active'],
    ['another environment, though it has a home,', agent, other, 'suspended'],
    ['anybody it is linked to, as it has none,', homeless, other, 'active'],
  ] as const)('and started by %s is %s', (_who, base, by, status) => {
    expect(started({ ...base, ...stopped }, by).status).toBe(status);
  });

  it('and was deactivated runs again where whoever starts it may lift both', () => {
    const both = (base: typeof agent) => ({ ...base, ...deactivated({ ...base, ...stopped }, now) });
    expect(both(agent).status).toBe('suspended');
    expect(started(both(agent), other)).toEqual({ ...stopped, deactivatedAt: now });
    expect(started(both(agent), home).status).toBe('active');
    expect(started(both(homeless), other).status).toBe('active');
  });

  it('is deactivated once, however often', () => {
    const once = deactivated(agent, now);
    expect(deactivated({ ...agent, ...once }, addSeconds(now, 9))).toEqual(once);
  });
});

describe('an agent that the environment has stopped', () => {
  it.each(['active', 'inactive', 'suspended'] as const)('is suspended there, and elsewhere %s', (status) => {
    expect(statusFor({ status, stoppedAt: now })).toBe('suspended');
    expect(statusFor({ status, stoppedAt: null })).toBe(status);
  });
});
