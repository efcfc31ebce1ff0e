import type { Address, Hex } from 'viem';
import { limits } from '../../kernel/limits.ts';
import type { Authorization } from '../exact/exact.ts';
import { ChainUnavailableError } from './json-rpc.ts';

/** Multicall3, which has this address on every chain; on the local one our own contract with its interface. */
export const multicall3: Address = '0xcA11bde05977b3631167028862bE2a173976CA11';

/**
 * The gas that a transaction of this many payments is sent with. The contract of ours reverts rather than let an item fail with less
 * than an item may have: beside what each usually takes there is always that much.
 */
export function batchGas(items: number): bigint {
  return limits.batchGasBase + limits.batchGasOfOne + limits.batchGasPerItem * BigInt(items);
}

/** One call of a batch. */
export interface BatchCall {
  target: Address;
  callData: Hex;
}

/** What a receipt says of a log. */
export interface ReceiptLog {
  address: string;
  data: string;
  logIndex: number;
  topics: readonly string[];
}

/** `aggregate3((address target, bool allowFailure, bytes callData)[])` of Multicall3. */
const aggregate3Selector = '0x82ad56cb';
/** `AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)` (EIP-3009). */
const authorizationUsedTopic = '0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5';
/** `Transfer(address indexed from, address indexed to, uint256 value)` (EIP-20). */
const transferTopic = '0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef';

/**
 * The call data of `aggregate3` for these calls in this order, each of which may fail alone. Written out by the ABI's
 * fixed layout: it is made on the hot path, where the general encoder takes six times as long.
 */
export function encodeBatch(calls: readonly BatchCall[]): Hex {
  let offsets = '';
  let items = '';
  let offset = calls.length * 32;
  for (const { target, callData } of calls) {
    const bytes = (callData.length - 2) / 2;
    const padded = Math.ceil(bytes / 32) * 32;
    offsets += word(offset);
    items += `${addressWord(target)}${word(1)}${word(96)}${word(bytes)}${callData.slice(2).padEnd(padded * 2, '0')}`;
    offset += 128 + padded;
  }
  return `${aggregate3Selector}${word(32)}${word(calls.length)}${offsets}${items}`;
}

/**
 * What `aggregate3` answered to each of its calls, read by the ABI's layout. Throws `ChainUnavailableError` where it isn't an answer
 * to this many calls, as from an address where no batch contract stands.
 */
export function decodeBatch(answer: Hex, count: number): { success: boolean; data: Hex }[] {
  const words = (answer.length - 2) / 64;
  const wordAt = (index: number): number => {
    // No answer of ours has more than 2^48 bytes: what says so isn't one.
    const text = answer.slice(2 + index * 64, 66 + index * 64);
    const value = text.length === 64 ? Number(`0x${text}`) : Number.NaN;
    if (!(value < 2 ** 48)) throw new ChainUnavailableError('the batch contract gave no answer');
    return value;
  };
  if (wordAt(0) !== 32 || wordAt(1) !== count || words < 2 + count)
    throw new ChainUnavailableError('the batch contract gave no answer to as many calls');
  return Array.from({ length: count }, (_, index) => {
    const start = 2 + wordAt(2 + index) / 32;
    const bytes = wordAt(start + 2);
    const from = 2 + (start + 3) * 64;
    const data = answer.slice(from, from + 2 * bytes);
    if (data.length !== 2 * bytes) throw new ChainUnavailableError('the batch contract gave half an answer');
    return { success: wordAt(start) === 1, data: `0x${data}` };
  });
}

/**
 * Which of these authorizations a transaction settled, told by its logs; an answer for each, in their order. Settled is
 * what used its nonce for exactly its transfer: EIP-3009 tokens log `AuthorizationUsed` and then, as their next log,
 * the `Transfer` (Circle's FiatTokenV2_2 and our own token both). Two payments that are alike but for the nonce have a
 * transfer each.
 *
 * `failed` says only that this transaction didn't settle it: another one may have.
 */
export function judgeBatchReceipt(
  logs: readonly ReceiptLog[],
  authorizations: readonly Authorization[],
  asset: Address,
): ('failed' | 'settled')[] {
  const settled = findTransfers(logs, asset);
  // Taken once: a nonce pays once, whoever asks for it twice.
  return authorizations.map((one) => (settled.delete(transferKey(one)) ? 'settled' : 'failed'));
}

/** The key of each transfer that followed the use of a nonce of its payer. */
function findTransfers(logs: readonly ReceiptLog[], asset: Address): Set<string> {
  const token = asset.toLowerCase();
  const ours = logs.filter((log) => log.address.toLowerCase() === token);
  const found = new Set<string>();
  let used: ReceiptLog | undefined;
  for (const log of ours.toSorted((a, b) => a.logIndex - b.logIndex)) {
    const [event, from, to] = log.topics;
    if (used && event === transferTopic && from === used.topics[1] && to !== undefined) {
      found.add(joinKey(from, used.topics[2], to, log.data));
    }
    used = event === authorizationUsedTopic ? log : undefined;
  }
  return found;
}

function transferKey({ from, to, value, nonce }: Authorization): string {
  return joinKey(`0x${addressWord(from)}`, nonce.toLowerCase(), `0x${addressWord(to)}`, `0x${word(value)}`);
}

function joinKey(...words: readonly (string | undefined)[]): string {
  return words.join();
}

/** An address as one word of the ABI. */
export function addressWord(address: Address): string {
  return address.slice(2).toLowerCase().padStart(64, '0');
}

/** A number as one word of the ABI. */
export function word(value: bigint | number): string {
  return value.toString(16).padStart(64, '0');
}
