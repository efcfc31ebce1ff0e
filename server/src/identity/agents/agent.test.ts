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
  stopped,
  tokenTime,
} from './agent.ts';

const now = new Date('2026-11-22T10:00:00.500Z');
const [home, other, third] = ['env_home', 'env_other', 'env_third'] as EnvironmentId[] as [
  EnvironmentId,
  EnvironmentId,
  EnvironmentId,
];
const agent = newAgent({ name: 'A', homeEnvironmentId: home }, now);
const homeless = newAgent({ name: 'B', homeEnvironmentId: null }, now);

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
    const state = { ...agent, ...stopped(agent, home), tokensValidFrom: now };
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

describe('a stopped agent is started again', () => {
  const stoppedBy = (base: typeof agent, ...by: EnvironmentId[]) =>
    by.reduce((state, environment) => Object.assign(state, stopped(state, environment)), { ...base });

  it('by its owner, whoever stopped it', () => {
    expect(started(stoppedBy(agent, other, home), home)).toEqual({
      suspendedBy: [],
      deactivatedAt: null,
      status: 'active',
    });
  });

  it.each([
    ['only by whoever stopped it, where that is not the owner', stoppedBy(agent, other), other, 'active'],
    ['by no third one', stoppedBy(agent, other), third, 'suspended'],
    ['by no one alone, where two stopped it', stoppedBy(homeless, other, third), third, 'suspended'],
    ['by the owner alone, where the owner stopped it', stoppedBy(agent, home), other, 'suspended'],
  ] as const)('%s', (_rule, state, by, status) => {
    expect(started(state, by).status).toBe(status);
  });

  it('and stays deactivated where the owner or itself did that, but not an agent without an owner', () => {
    const both = (base: typeof agent) => ({ ...base, ...deactivated(stoppedBy(base, other), now) });
    expect(both(agent).status).toBe('suspended');
    expect(started(both(agent), other).status).toBe('inactive');
    expect(started(both(agent), home).status).toBe('active');
    expect(started(both(homeless), other).status).toBe('active');
  });

  it('twice as once', () => {
    expect(stopped({ ...agent, ...stopped(agent, other) }, other).suspendedBy).toEqual([other]);
    const once = deactivated(agent, now);
    expect(deactivated({ ...agent, ...once }, addSeconds(now, 9))).toEqual(once);
  });
});
