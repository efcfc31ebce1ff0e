import type { Address, Hex } from 'viem';
import { ChainUnavailableError } from './json-rpc.ts';

/**
 * A program that `eth_call` runs as if it created a contract, and that gives a byte for each address behind it: 1 where that has code.
 * One call instead of an `eth_getCode` for each address, of which providers take a hundred in a request.
 */
const program = [
  '5f', //             index = 0
  '5b', //             loop:
  '80601402602a01', // at = 20 * index + 0x2a, the length of this program
  '803814602557', //   if at == CODESIZE goto end
  '601490600c39', //   memory[0] = the address there, as a word
  '5f513b1515', //     EXTCODESIZE != 0
  '8160200153', //     memory[32 + index] = that, as a byte
  '600101600156', //   index += 1, goto loop
  '5b50', //           end:
  '6020f3', //         return memory[32 .. 32 + index]
].join('');

/** The data of an `eth_call` without `to` that looks for the code of these accounts: a contract's, or what EIP-7702 puts there. */
export function encodeCodeCheck(accounts: readonly Address[]): Hex {
  return `0x${program}${accounts.map((account) => account.slice(2).toLowerCase()).join('')}`;
}

/** What it answered, for each account in their order. */
export function decodeCodeCheck(answer: Hex, count: number): boolean[] {
  const bytes = Buffer.from(answer.slice(2), 'hex');
  if (bytes.length !== count || bytes.some((byte) => byte > 1))
    throw new ChainUnavailableError('the RPC did not run the look for code');
  return [...bytes].map((byte) => byte === 1);
}
