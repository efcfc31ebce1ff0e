import * as fc from 'fast-check';
import { type Address, getAddress, isAddressEqual } from 'viem';
import { expect, it } from 'vitest';
import { checksumAddress, isSameAddress } from './checksum-address.ts';
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

it('two spellings are of one address where viem says so', () => {
  const spelt = fc
    .tuple(anyAddress, fc.constantFrom('lower', 'upper', 'mixed'))
    .map(([address, letters]): Address => {
      const digits = address.slice(2);
      if (letters === 'mixed') return address;
      return `0x${letters === 'lower' ? digits.toLowerCase() : digits.toUpperCase()}`;
    });
  fc.assert(
    fc.property(spelt, spelt, fc.integer({ min: 2, max: 41 }), (one, other, place) => {
      expect(isSameAddress(one, other)).toBe(isAddressEqual(one, other));
      expect(isSameAddress(one, `0x${one.slice(2).toLowerCase()}`)).toBe(true);
      expect(isSameAddress(one, `0x${one.slice(2).toUpperCase()}`)).toBe(true);
      expect(isSameAddress(one, onePlaceOff(one, place))).toBe(false);
    }),
    { numRuns: 300 },
  );
});

function onePlaceOff(address: Address, place: number): Address {
  const digit = (Number.parseInt(address[place] ?? '', 16) + 1) % 16;
  return `0x${address.slice(2, place)}${digit.toString(16)}${address.slice(place + 1)}`;
}
