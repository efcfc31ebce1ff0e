import { describe, expect, it } from 'vitest';
import type { Owed } from './payer-sums.sql.ts';
import type { Payment } from '../payments/payment.ts';
import { type Ask, planClaims } from './plan-claims.ts';

const now = new Date('2026-11-22T12:00:00Z');
const later = new Date('2026-11-22T13:00:00Z');
const plenty = { inAll: 1_000n, byServer: 1_000n, byPayer: 1_000n };
const nothingOwed: Owed = { byNetwork: new Map(), byServer: new Map(), byPayer: new Map() };

function ask(
  changed: Partial<Ask> = {},
  payment: Partial<Pick<Payment, 'amount' | 'mode' | 'payer' | 'serverId'>> = {},
): Ask {
  return {
    payment: {
      network: 'eip155:84532',
      asset: 'usdc',
      payer: 'anna',
      amount: 10n,
      mode: 'after_success',
      serverId: 'srv_a',
      ...payment,
    } as Payment,
    balance: { atomic: 1_000n, readAt: now },
    claimed: 0n,
    suspendedUntil: null,
    hosted: false,
    ...changed,
  };
}

const plan = (asks: Ask[], owed: Owed | undefined = nothingOwed, limits = plenty) =>
  planClaims(asks, owed, limits, now).map((one) => ('mode' in one ? one.mode : one.refusal));

describe('claims on a payer’s balance', () => {
  it('are let in, in their order, as long as all of them are covered', () => {
    const balance = { atomic: 25n, readAt: now };
    expect(
      plan([ask({ balance }), ask({ balance }), ask({ balance }), ask({ balance }, { amount: 5n })]),
    ).toEqual(['after_success', 'after_success', 'insufficient_funds', 'after_success']);
  });

  it('count what the payer has claimed before, to the last unit', () => {
    const balance = { atomic: 25n, readAt: now };
    expect(plan([ask({ balance, claimed: 15n })])).toEqual(['after_success']);
    expect(plan([ask({ balance, claimed: 16n })])).toEqual(['insufficient_funds']);
  });

  it('of one payer leave another’s alone', () => {
    const balance = { atomic: 10n, readAt: now };
    expect(plan([ask({ balance }), ask({ balance }, { payer: 'berta' })])).toEqual([
      'after_success',
      'after_success',
    ]);
  });

  it('are not looked at where the rail reserves the money itself', () => {
    expect(plan([ask({ balance: undefined, claimed: 10n ** 30n })])).toEqual(['after_success']);
  });
});

describe('a payer whose settlement has failed', () => {
  it('is refused where it could not be given its money back, and pays upfront where it could', () => {
    const suspended = { suspendedUntil: later };
    expect(plan([ask(suspended), ask({ ...suspended, hosted: true })])).toEqual([
      'payer_suspended',
      'upfront',
    ]);
    expect(plan([ask({ suspendedUntil: now })]), 'the hour is over').toEqual(['after_success']);
  });
});

const optimistic = (payment: Parameters<typeof ask>[1] = {}) => ask({}, { mode: 'optimistic', ...payment });

describe('an optimistic payment', () => {
  it.each<[string, Partial<typeof plenty>, Owed]>([
    ['in all', { inAll: 29n }, { ...nothingOwed, byNetwork: new Map([['eip155:84532', 10n]]) }],
    ['to its server', { byServer: 29n }, { ...nothingOwed, byServer: new Map([['srv_a', 10n]]) }],
    [
      'by its payer',
      { byPayer: 29n },
      { ...nothingOwed, byPayer: new Map([['eip155:84532 usdc anna', 10n]]) },
    ],
  ])('is settled first once more would be owed %s than may be', (_, limit, owed) => {
    const limits = { ...plenty, ...limit };
    expect(plan([optimistic(), optimistic(), optimistic({ amount: 9n })], owed, limits)).toEqual([
      'optimistic',
      'after_success',
      'optimistic',
    ]);
  });

  it('leaves the others’ limits alone', () => {
    const limits = { ...plenty, byServer: 10n, byPayer: 10n };
    const other = { payer: 'berta', serverId: 'srv_b' } as const;
    expect(plan([optimistic(), optimistic(other)], nothingOwed, limits)).toEqual([
      'optimistic',
      'optimistic',
    ]);
    expect(plan([optimistic(), optimistic({ payer: 'berta' })], nothingOwed, limits)).toEqual([
      'optimistic',
      'after_success',
    ]);
  });

  it('is settled first where nobody knows what is owed', () => {
    expect(planClaims([optimistic()], undefined, plenty, now)).toEqual([{ mode: 'after_success' }]);
  });
});
