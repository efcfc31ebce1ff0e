import type { Address } from 'viem';
import { keccak256 } from './keccak.ts';

const firstLetter = 'a'.charCodeAt(0);
const toUpperCase = 'A'.charCodeAt(0) - firstLetter;

/** The one spelling of an address (EIP-55): a letter is large where its digit of the hash is 8 or more. Takes 0x and 40 digits. */
export function checksumAddress(address: string): Address {
  const text = Buffer.from(address.slice(2).toLowerCase(), 'latin1');
  const hash = keccak256(text);
  for (const [at, letter] of text.entries()) {
    const byte = hash[at >> 1] ?? 0;
    const digit = at % 2 === 0 ? byte >> 4 : byte & 15;
    if (letter >= firstLetter && digit >= 8) text[at] = letter + toUpperCase;
  }
  return `0x${text.toString('latin1')}`;
}

/** Whether two spellings are of one address: which letters are large is a checksum, and no part of it. */
export function isSameAddress(one: Address, other: Address): boolean {
  return one === other || one.toLowerCase() === other.toLowerCase();
}
