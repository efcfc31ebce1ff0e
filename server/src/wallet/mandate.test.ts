import { describe, expect, it } from 'vitest';
import { addSeconds } from '../kernel/clock.ts';
import { newAgentId, newId } from '../kernel/ids.ts';
import { type MandateRequest, type MandateStatus, mandateStatus } from './mandate.ts';

const asked = new Date('2026-11-22T10:00:00Z');
const unsigned: MandateRequest = {
  id: newId('delegation'),
  agentId: newAgentId(),
  naturalLanguage: 'Buy weather reports',
  category: null,
  currency: 'USDC',
  limitAmount: 1_000_000n,
  maxAmountPerTx: null,
  validForSeconds: 3600,
  hostAllowlist: [],
  environmentId: null,
  signedBy: null,
  signedAt: null,
  createdAt: asked,
  expiresAt: addSeconds(asked, 600),
};
// Signed a minute after it was asked for: its hour begins then.
const signed: MandateRequest = { ...unsigned, signedBy: 'development', signedAt: addSeconds(asked, 60) };

describe('a mandate', () => {
  it.each<[string, MandateRequest, bigint | null, number, MandateStatus]>([
    ['that was just asked for', unsigned, null, 0, 'pending_signature'],
    ['at the last moment of its request', unsigned, null, 599.999, 'pending_signature'],
    ['whose request has run out', unsigned, null, 600, 'expired'],
    ['that was just signed', signed, 1_000_000n, 60, 'signed'],
    ['signed, past the time for signing', signed, 1_000_000n, 601, 'signed'],
    ['with the last atom left', signed, 1n, 61, 'signed'],
    ['with nothing left', signed, 0n, 61, 'exhausted'],
    ['at the last moment of its hour', signed, 1n, 3659.999, 'signed'],
    ['whose hour is over', signed, 1n, 3660, 'expired'],
    ['whose hour is over, with nothing left', signed, 0n, 3660, 'expired'],
  ])('%s', (_when, mandate, remaining, secondsLater, status) => {
    expect(mandateStatus(mandate, remaining, addSeconds(asked, secondsLater))).toBe(status);
  });
});
