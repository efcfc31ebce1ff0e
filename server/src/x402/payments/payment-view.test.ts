import { describe, expect, it } from 'vitest';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import type { Payment } from './payment.ts';
import { nextStep, presentToPayer, statesOf } from './payment-view.ts';

const now = new Date('2026-06-21T12:00:00Z');

function listed(change: Partial<Payment>, keptSeconds: number | null = null) {
  const payment: Payment = {
    environmentId: 'env_a',
    serverId: 'srv_a',
    endpointId: 'ep_a',
    network: 'eip155:84532',
    asset: '0xasset',
    payer: '0xpayer',
    nonce: '0xnonce',
    payTo: '0xpayee',
    amount: 10_000n,
    validAfter: 0n,
    validBefore: BigInt(unixSeconds(now) + 120),
    signature: '0xsignature',
    id: 'pay_a',
    mode: 'after_success',
    agentId: 'agent',
    agentVerified: false,
    clientAddress: '127.0.0.1',
    termsSecretHash: null,
    state: 'open',
    attempt: 1,
    leaseUntil: null,
    delivery: null,
    replayable: true,
    transaction: null,
    failure: null,
    refundOf: null,
    createdAt: now,
    settledAt: null,
    ...change,
  };
  return { payment, answerKeptUntil: keptSeconds === null ? null : addSeconds(now, keptSeconds) };
}

const inSeconds = (seconds: number) => ({ validBefore: BigInt(unixSeconds(now) + seconds) });

describe('what comes next for a payment that', () => {
  it.each([
    ['is open with time for an attempt', listed({}), 'resend'],
    ['is open, and runs out before an attempt could end', listed(inSeconds(59)), 'sign_new'],
    ['is open with exactly the time for one', listed(inSeconds(60)), 'resend'],
    [
      'is being forwarded',
      listed({ state: 'forwarding', leaseUntil: addSeconds(now, 1), ...inSeconds(1) }),
      'wait',
    ],
    [
      'was being forwarded by a process that is gone',
      listed({ state: 'forwarding', leaseUntil: now }),
      'resend',
    ],
    ['is due', listed({ state: 'responded', ...inSeconds(-9) }), 'wait'],
    ['is on its way to the chain, however late', listed({ state: 'settling', ...inSeconds(-9) }), 'wait'],
    ['failed, and may still be settled', listed({ state: 'settlement_failed' }), 'resend'],
    ['failed, and has run out', listed({ state: 'settlement_failed', ...inSeconds(0) }), 'sign_new'],
    ['is paid, its answer kept', listed({ state: 'settled' }, 1), 'resend'],
    ['is paid, its answer swept', listed({ state: 'settled' }, 0), 'none'],
    ['is paid, and no answer was kept', listed({ state: 'settled' }), 'none'],
    ['is paid upfront, its answer owed', listed({ state: 'settled', delivery: 'owed' }), 'resend'],
    [
      'is paid upfront, its API at work',
      listed({ state: 'settled', delivery: 'running', leaseUntil: addSeconds(now, 1) }),
      'wait',
    ],
    [
      'is paid upfront, its attempt interrupted',
      listed({ state: 'settled', delivery: 'running', leaseUntil: now }),
      'resend',
    ],
    ['is paid upfront, its answer kept', listed({ state: 'settled', delivery: 'done' }, 1), 'resend'],
    ['was given back', listed({ state: 'settled', delivery: 'refunded' }), 'sign_new'],
    ['is paid, its answer a stream', listed({ state: 'settled', replayable: false }, 1), 'none'],
  ])('%s', (_, payment, action) => {
    expect(nextStep(payment, now).action).toBe(action);
  });
});

it('each state of a row is shown as one public state, and found again by it', () => {
  for (const state of [
    'open',
    'forwarding',
    'responded',
    'settling',
    'settled',
    'settlement_failed',
  ] as const)
    expect(statesOf(presentToPayer(listed({ state }), now).state)).toContain(state);
});
