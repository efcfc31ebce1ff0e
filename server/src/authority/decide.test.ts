import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { newAgentId, newId } from '../kernel/ids.ts';
import { decide, type PaymentRequest } from './decide.ts';
import type { Delegation, Limit } from './delegation.ts';

const now = new Date('2026-11-22T10:00:00Z');
const agentId = newAgentId();
const delegation: Delegation = {
  environmentId: newId('environment'),
  id: newId('delegation'),
  agentId,
  status: 'active',
  description: '',
  category: null,
  hostAllowlist: [],
  validFrom: new Date('2026-11-22T10:00:00Z'),
  validUntil: new Date('2026-11-22T11:00:00Z'),
};
const request: PaymentRequest = {
  agentId,
  agentActive: true,
  amount: 100n,
  currency: 'USDC',
  resource: new URL('https://api.example.com/weather'),
  payeeVerified: true,
};

function limit(kind: Limit['kind'], amount: bigint, parts: Partial<Limit> = {}): Limit {
  return { kind, currency: 'USDC', amount, spent: 0n, held: 0n, ...parts };
}
const enough = [limit('lifetime', 1000n), limit('per_transaction', 100n)];

describe('decide', () => {
  it('allows what fits every limit, and says how much', () => {
    expect(decide(delegation, enough, request, now)).toEqual({
      action: 'ALLOW',
      reasonCodes: ['within_limits'],
      maxAmount: 100n,
    });
  });

  it.each<[string, Partial<Delegation>, Partial<PaymentRequest>, string]>([
    ['a stopped agent', {}, { agentActive: false }, 'agent_inactive'],
    ['another agent', {}, { agentId: newAgentId() }, 'agent_mismatch'],
    ['a revoked delegation', { status: 'revoked' }, {}, 'delegation_revoked'],
    ['one that begins later', { validFrom: new Date(now.getTime() + 1) }, {}, 'delegation_not_yet_valid'],
    ['one that has just ended', { validUntil: now }, {}, 'delegation_expired'],
    ['another host', { hostAllowlist: ['other.example'] }, {}, 'host_not_allowed'],
    ['a payee that nobody tied to the host', {}, { payeeVerified: false }, 'payee_unverified'],
    ['a currency that nobody granted', {}, { currency: 'USD' }, 'currency_not_allowed'],
  ])('denies %s, and offers no smaller amount', (_what, changed, asked, reason) => {
    expect(decide({ ...delegation, ...changed }, enough, { ...request, ...asked }, now)).toEqual({
      action: 'DENY',
      reasonCodes: [reason],
      maxAmount: 0n,
    });
  });

  it.each<[string, Limit[], string[], bigint]>([
    [
      'one payment',
      [limit('lifetime', 1000n), limit('per_transaction', 99n)],
      ['per_transaction_limit_exceeded'],
      99n,
    ],
    ['what was spent', [limit('lifetime', 150n, { spent: 51n })], ['lifetime_limit_exceeded'], 99n],
    ['what is held', [limit('lifetime', 150n, { held: 51n })], ['lifetime_limit_exceeded'], 99n],
    ['both together', [limit('lifetime', 150n, { spent: 25n, held: 26n })], ['lifetime_limit_exceeded'], 99n],
    [
      'several limits',
      [limit('lifetime', 50n), limit('per_transaction', 10n)],
      ['lifetime_limit_exceeded', 'per_transaction_limit_exceeded'],
      10n,
    ],
    ['a limit that is used up', [limit('lifetime', 100n, { spent: 100n })], ['lifetime_limit_exceeded'], 0n],
  ])(
    'denies what exceeds the limit for %s, and says what would fit',
    (_what, limits, reasonCodes, maxAmount) => {
      expect(decide(delegation, limits, request, now)).toEqual({ action: 'DENY', reasonCodes, maxAmount });
    },
  );

  it('lets a limit of another currency neither stand in the way nor stand in', () => {
    expect(
      decide(delegation, [...enough, limit('lifetime', 1n, { currency: 'USD' })], request, now).action,
    ).toBe('ALLOW');
    expect(decide(delegation, [limit('lifetime', 1000n, { currency: 'USD' })], request, now).action).toBe(
      'DENY',
    );
  });

  it('collects every failure', () => {
    const bad = { ...request, agentActive: false, payeeVerified: false, amount: 10_000n };
    expect(decide({ ...delegation, status: 'revoked' }, enough, bad, now).reasonCodes).toEqual([
      'agent_inactive',
      'delegation_revoked',
      'payee_unverified',
      'lifetime_limit_exceeded',
      'per_transaction_limit_exceeded',
    ]);
  });

  it.each([
    [['api.example.com'], 'https://api.example.com/x', true],
    [['API.Example.com'], 'https://api.example.com/x', true],
    [['api.example.com'], 'https://api.example.com:8443/x', true],
    [['api.example.com:8443'], 'https://api.example.com:8443/x', true],
    [['api.example.com:8443'], 'https://api.example.com/x', false],
    [['example.com'], 'https://api.example.com/x', false],
    [['*.example.com'], 'https://api.example.com/x', true],
    [['*.example.com'], 'https://a.b.example.com/x', true],
    [['*.example.com'], 'https://example.com/x', false],
    [['*.example.com'], 'https://evilexample.com/x', false],
    [['example.com'], 'https://example.com.evil.org/x', false],
    [['example.com'], 'https://example.com@evil.org/x', false],
    [['a.example', 'b.example'], 'https://b.example/', true],
  ])('the hosts %j take %s: %s', (hostAllowlist, url, allowed) => {
    const decision = decide(
      { ...delegation, hostAllowlist },
      enough,
      { ...request, resource: new URL(url) },
      now,
    );
    expect(decision.action === 'ALLOW').toBe(allowed);
  });
});

type Step = { do: 'ask'; amount: bigint } | { do: 'capture' | 'release'; hold: number };
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('ask' as const), amount: fc.bigInt(0n, 120n) }),
  fc.record({ do: fc.constantFrom('capture' as const, 'release' as const), hold: fc.nat(20) }),
);

describe('invariant 1: over any sequence of decisions, captures and releases', () => {
  it('spent + held never exceeds the limit, and what fits is never denied', () => {
    fc.assert(
      fc.property(
        fc.bigInt(0n, 500n),
        fc.bigInt(0n, 100n),
        fc.array(step, { maxLength: 60 }),
        (total, each, steps) => {
          const holds: bigint[] = [];
          const lifetime = limit('lifetime', total);
          const perTransaction = limit('per_transaction', each);
          for (const next of steps) {
            if (next.do === 'ask') {
              const fits = next.amount <= each && lifetime.spent + lifetime.held + next.amount <= total;
              const decision = decide(
                delegation,
                [lifetime, perTransaction],
                { ...request, amount: next.amount },
                now,
              );
              expect(decision.action).toBe(fits ? 'ALLOW' : 'DENY');
              if (decision.action === 'ALLOW') {
                lifetime.held += next.amount;
                holds.push(next.amount);
              } else {
                expect(decision.maxAmount < next.amount).toBe(true);
              }
            } else {
              const [amount = 0n] = holds.splice(next.hold, 1);
              lifetime.held -= amount;
              if (next.do === 'capture') lifetime.spent += amount;
            }
            expect(lifetime.spent + lifetime.held <= total).toBe(true);
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
