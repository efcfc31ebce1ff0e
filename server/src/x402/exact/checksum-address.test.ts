import * as fc from 'fast-check';
import { getAddress } from 'viem';
import { expect, it } from 'vitest';
import { checksumAddress } from './checksum-address.ts';
import { anyAddress } from '../payments/payments.fixture.ts';

it('an address is spelt as viem spells it, whichever letters it comes with (EIP-55)', () => {
  fc.assert(
    fc.property(anyAddress, (address) => {
      expect(checksumAddress(address.toLowerCase())).toBe(address);
      expect(checksumAddress(`0x${address.slice(2).toUpperCase()}`)).toBe(getAddress(address));
    }),
    { numRuns: 300 },
  );
});
