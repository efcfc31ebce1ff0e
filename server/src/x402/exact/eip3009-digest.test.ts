import * as fc from 'fast-check';
import { type Hex, hashTypedData } from 'viem';
import { describe, expect, it } from 'vitest';
import { transferDigest } from './eip3009-digest.ts';
import { type Authorization, transferTypedData } from './exact.ts';
import { type Network, networks } from '../networks.ts';
import { anyAuthorization, anyNetwork } from '../payments/payments.fixture.ts';

describe('the digest of TransferWithAuthorization', () => {
  it("is viem's for every network and authorisation, whatever was hashed before", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(anyNetwork, anyAuthorization), { minLength: 1, maxLength: 4 }), (all) => {
        const ours = all.map(([network, authorization]) => hexDigest(network, authorization));
        const theirs = all.map(([network, authorization]) =>
          hashTypedData(transferTypedData(network, authorization)),
        );
        // Compared when all are there, so that a result that lives in a shared buffer shows.
        expect(ours).toEqual(theirs);
      }),
      { numRuns: 300 },
    );
  });

  it('takes an address in any letter case', () => {
    fc.assert(
      fc.property(anyAuthorization, (authorization) => {
        const lower = { ...authorization, from: authorization.from.toLowerCase() as Hex };
        expect(hexDigest(networks.sandbox, lower)).toBe(hexDigest(networks.sandbox, authorization));
      }),
    );
  });

  it('keeps earlier results as they were', () => {
    const [first] = fc.sample(anyAuthorization, 1);
    const [second] = fc.sample(anyAuthorization, 1);
    if (!first || !second) throw new Error('no sample');
    const digest = transferDigest(networks.sandbox, first);
    const before = digest?.toString('hex');
    transferDigest(networks.production, second);
    expect(digest?.toString('hex')).toBe(before);
  });

  it.each<[string, Partial<Record<keyof Authorization, unknown>>]>([
    ['a short payer', { from: '0x036CbD53842c5426634e7929541eC2318f3dCF' }],
    ['a long payee', { to: '0x036CbD53842c5426634e7929541eC2318f3dCF7e00' }],
    ['a payee that is not hex', { to: '0x036CbD53842c5426634e7929541eC2318f3dCFxx' }],
    ['a negative amount', { value: -1n }],
    ['an amount of more than 256 bits', { value: 2n ** 256n }],
    ['a negative time', { validAfter: -1n }],
    ['a time of more than 256 bits', { validBefore: 2n ** 256n }],
    ['a short nonce', { nonce: '0x00' }],
    ['a nonce without 0x', { nonce: '0'.repeat(66) }],
  ])('there is none for %s', (_what, change) => {
    const [authorization] = fc.sample(anyAuthorization, 1);
    const changed = { ...authorization, ...change } as Authorization;
    expect(transferDigest(networks.sandbox, changed)).toBeUndefined();
  });
});

function hexDigest(network: Network, authorization: Authorization): string {
  return `0x${transferDigest(network, authorization)?.toString('hex')}`;
}
