import type { Address, Hex } from 'viem';
import { addressWord, decodeBatch, encodeBatch, word } from './batch-call.ts';
import type { Authorization, ExactPayment } from '../exact/exact.ts';
import {
  bytesOf,
  ChainUnavailableError,
  quantityOf,
  resultOf,
  type RpcAnswer,
  type RpcCall,
} from './json-rpc.ts';

/** `balanceOf(address)` (EIP-20). */
const balanceOfSelector = '0x70a08231';
/** `authorizationState(address,bytes32)` (EIP-3009). */
const authorizationStateSelector = '0xe94a0102';
/** `transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)` (EIP-3009). */
const transferSelector = '0xe3ee160e';

/** `transfer(address,uint256)` (EIP-20). */
const plainTransferSelector = '0xa9059cbb';
/** `isBlacklisted(address)` of Circle's FiatTokenV1 and later. */
const isBlacklistedSelector = '0xfe575a87';
/** `getBlockNumber()` of Multicall3. */
const blockNumberSelector = '0x42cbb15c';

/** The call data that asks a token for an account's balance. */
export function balanceCall(account: Address): Hex {
  return `${balanceOfSelector}${addressWord(account)}`;
}

/** The call data that asks a token whether an authorisation's nonce is used. */
export function stateCall({ from, nonce }: Pick<Authorization, 'from' | 'nonce'>): Hex {
  return `${authorizationStateSelector}${addressWord(from)}${nonce.slice(2)}`;
}

/** The call data that asks a token whether it refuses whatever an account pays or is paid. */
export function blacklistCall(account: Address): Hex {
  return `${isBlacklistedSelector}${addressWord(account)}`;
}

/** The call data that gives an account nothing: a token refuses that, too, to whom it would refuse money. */
export function emptyTransferCall(to: Address): Hex {
  return `${plainTransferSelector}${addressWord(to)}${word(0)}`;
}

/**
 * The call data that moves the money: `transferWithAuthorization` with v, r and s, the overload that every EIP-3009 token
 * has. Its arguments are nine words, written out by the ABI's fixed layout.
 */
export function transferCall(payment: ExactPayment): Hex {
  const { from, to, value, validAfter, validBefore, nonce } = payment.authorization;
  const [r, s, v] = [
    payment.signature.slice(2, 66),
    payment.signature.slice(66, 130),
    payment.signature.slice(130),
  ];
  const words = [addressWord(from), addressWord(to), word(value), word(validAfter), word(validBefore)];
  return `${transferSelector}${words.join('')}${nonce.slice(2)}${v.padStart(64, '0')}${r}${s}`;
}

/** Asks a contract, or with no `to` runs a program, on the latest block. */
export function viewOf(call: { to?: Address; data: Hex }): RpcCall {
  return { method: 'eth_call', params: [call, 'latest'] };
}

/** Where on a chain the money is, and what asks and moves it many times at once. */
export interface Contracts {
  token: Address;
  batchContract: Address;
}

/** Asks the token several things in one call to the batch contract. */
export function batchView({ token, batchContract }: Contracts, calls: readonly Hex[]): RpcCall {
  const data = encodeBatch(calls.map((callData) => ({ target: token, callData })));
  return viewOf({ to: batchContract, data });
}

/** The same, and first of all in which block it is answered. */
export function blockView({ token, batchContract }: Contracts, calls: readonly Hex[]): RpcCall {
  const data = encodeBatch([
    { target: batchContract, callData: blockNumberSelector },
    ...calls.map((callData) => ({ target: token, callData })),
  ]);
  return viewOf({ to: batchContract, data });
}

/** What was answered to each part of a batch view. */
export function readBatch(answer: RpcAnswer | undefined, count: number): ReturnType<typeof decodeBatch> {
  return decodeBatch(bytesOf(resultOf(answer)), count);
}

/** The one word that a view answered with. */
export function wordOf(answer: unknown): bigint {
  if (typeof answer === 'string' && answer.length === 66) return quantityOf(answer);
  // An address without code answers `0x`: no balance of zero, and no unused nonce.
  throw new ChainUnavailableError('the token did not answer with one word');
}

/** The yes or no that a view answered with. */
export function booleanOf(answer: unknown): boolean {
  const value = wordOf(answer);
  if (value > 1n) throw new ChainUnavailableError('the token answered something that is no boolean');
  return value === 1n;
}
