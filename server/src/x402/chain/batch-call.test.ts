import * as fc from 'fast-check';
import {
  type Address,
  encodeAbiParameters,
  encodeEventTopics,
  encodeFunctionData,
  getAddress,
  type Hex,
  multicall3Abi,
  parseAbi,
} from 'viem';
import { describe, expect, it } from 'vitest';
import { limits } from '../../kernel/limits.ts';
import { batchGas, encodeBatch, judgeBatchReceipt, type ReceiptLog } from './batch-call.ts';
import type { Authorization } from '../exact/exact.ts';

const events = parseAbi([
  'event Transfer(address indexed from, address indexed to, uint256 value)',
  'event Approval(address indexed owner, address indexed spender, uint256 value)',
  'event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)',
  'event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce)',
]);
const asset: Address = '0x036CbD53842c5426634e7929541eC2318f3dCF7e';
const otherToken: Address = '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913';

type Event = Omit<ReceiptLog, 'logIndex'>;

function transfer({ from, to, value }: Authorization, address = asset): Event {
  const topics = encodeEventTopics({ abi: events, eventName: 'Transfer', args: { from, to } });
  return log(address, topics, encodeAbiParameters([{ type: 'uint256' }], [value]));
}

function approval({ from, to, value }: Authorization): Event {
  const args = { owner: from, spender: to };
  const topics = encodeEventTopics({ abi: events, eventName: 'Approval', args });
  return log(asset, topics, encodeAbiParameters([{ type: 'uint256' }], [value]));
}

function used({ from, nonce }: Authorization, address = asset): Event {
  const args = { authorizer: from, nonce };
  return log(address, encodeEventTopics({ abi: events, eventName: 'AuthorizationUsed', args }));
}

function cancelled({ from, nonce }: Pick<Authorization, 'from' | 'nonce'>): Event {
  const args = { authorizer: from, nonce };
  return log(asset, encodeEventTopics({ abi: events, eventName: 'AuthorizationCanceled', args }));
}

function log(address: Address, topics: readonly unknown[], data: Hex = '0x'): Event {
  // Nodes write addresses in lower case.
  return { address: address.toLowerCase(), topics: topics as ReceiptLog['topics'], data };
}

function numbered(list: readonly Event[]): ReceiptLog[] {
  return list.map((event, index) => ({ ...event, logIndex: index + 7 }));
}

function hexOf(bytes: number): fc.Arbitrary<Hex> {
  return fc
    .uint8Array({ minLength: bytes, maxLength: bytes })
    .map((array) => `0x${Buffer.from(array).toString('hex')}` as const);
}

function account(index: number): Address {
  return getAddress(`0x${(0xabcdef00 + index).toString(16).padStart(40, 'c')}`);
}

// Few payers, payees and prices, so that many payments are alike but for the nonce.
const authorizations = fc.uniqueArray(hexOf(32), { maxLength: 12 }).chain((nonces) =>
  fc.tuple(
    ...nonces.map((nonce) =>
      fc
        .record({ from: fc.nat(2), to: fc.nat(2), value: fc.bigInt(0n, 2n) })
        .map(({ from, to, value }): Authorization => {
          const [payer, payee] = [account(from), account(10 + to)];
          return { from: payer, to: payee, value, validAfter: 0n, validBefore: 1n, nonce };
        }),
    ),
  ),
);

/** What a transaction may log for a payment that it did not settle. */
const lookalikes: Record<string, (one: Authorization) => Event[]> = {
  nothing: () => [],
  'its transfer alone': (one) => [transfer(one)],
  'its nonce alone': (one) => [used(one)],
  'both by another token': (one) => [used(one, otherToken), transfer(one, otherToken)],
  'its nonce, and the transfer by another token': (one) => [used(one), transfer(one, otherToken)],
  'its nonce by another token, and the transfer': (one) => [used(one, otherToken), transfer(one)],
  'the two in the other order': (one) => [transfer(one), used(one)],
  'its nonce cancelled, and the transfer': (one) => [cancelled(one), transfer(one)],
  'its nonce, and an approval of the amount': (one) => [used(one), approval(one)],
  'its nonce for another amount': (one) => [used(one), transfer({ ...one, value: one.value + 1n })],
  'its nonce for another payee': (one) => [used(one), transfer({ ...one, to: account(99) })],
  'the nonce of another payer': (one) => [used({ ...one, from: account(98) }), transfer(one)],
  'its nonce, something else, and the transfer': (one) => [used(one), cancelled(one), transfer(one)],
};
// Keeps a lone `AuthorizationUsed` from lending itself to the transfer of the next look-alike.
const cut = cancelled({ from: account(97), nonce: `0x${'00'.repeat(32)}` });

describe('encodeBatch', () => {
  it('makes the call data that the general encoder makes', () => {
    const callData = fc
      .uint8Array({ maxLength: 100 })
      .map((bytes) => `0x${Buffer.from(bytes).toString('hex')}` as const);
    const calls = fc.array(fc.record({ target: hexOf(20).map((hex) => getAddress(hex)), callData }));
    fc.assert(
      fc.property(calls, (batch) => {
        const args = [batch.map((call) => ({ ...call, allowFailure: true }))] as const;
        expect(encodeBatch(batch)).toBe(
          encodeFunctionData({ abi: multicall3Abi, functionName: 'aggregate3', args }),
        );
      }),
    );
  });
});

describe('batchGas', () => {
  it('stays below the 16 million that a transaction may ask for (EIP-7825), whatever the size of the batch', () => {
    const sizes = Array.from({ length: limits.batchItems }, (_, index) => index + 1);
    expect(sizes.filter((size) => batchGas(size) >= 16_000_000n)).toEqual([]);
    // One item more than any leaves room for must have a whole item's gas, or its failure would undo the others.
    expect(sizes.filter((size) => batchGas(size) - 75_000n * BigInt(size) < 160_000n)).toEqual([]);
  });
});

describe('judgeBatchReceipt', () => {
  const fates = fc.array(fc.constantFrom('settled', ...Object.keys(lookalikes)), {
    minLength: 12,
    maxLength: 12,
  });

  it('calls settled exactly what used its nonce for its transfer, in whatever company', () => {
    fc.assert(
      fc.property(authorizations, fates, fc.boolean(), (batch, chosen, foreign) => {
        const logs = batch.flatMap((one, index) => {
          const lookalike = lookalikes[chosen[index] ?? ''];
          const own = lookalike?.(one) ?? [used(one), transfer(one)];
          // Logs of others may come between any two.
          return [...own, cut].flatMap((event) => (foreign ? [transfer(one, otherToken), event] : [event]));
        });
        expect(judgeBatchReceipt(numbered(logs), batch, asset)).toEqual(
          batch.map((_, index) => (chosen[index] === 'settled' ? 'settled' : 'failed')),
        );
      }),
    );
  });

  it.each(Object.entries(lookalikes))('takes no settlement for: %s', (_, logsOf) => {
    const one = { from: account(0), to: account(1), value: 5n, validAfter: 0n, validBefore: 1n };
    const payment: Authorization = { ...one, nonce: `0x${'ab'.repeat(32)}` };
    expect(judgeBatchReceipt(numbered(logsOf(payment)), [payment], asset)).toEqual(['failed']);
    const settled = [...logsOf(payment), used(payment), transfer(payment)];
    expect(judgeBatchReceipt(numbered(settled), [payment], asset)).toEqual(['settled']);
  });

  it('says the same of the same logs in any order, and of payments in any order', () => {
    const shuffled = fc.infiniteStream(fc.nat());
    fc.assert(
      fc.property(authorizations, fates, shuffled, (batch, chosen, keys) => {
        const logs = numbered(
          batch.flatMap((one, index) => lookalikes[chosen[index] ?? '']?.(one) ?? [used(one), transfer(one)]),
        );
        const answers = judgeBatchReceipt(logs, batch, asset);
        expect(judgeBatchReceipt(shuffle(logs, keys), batch, asset)).toEqual(answers);
        const other = shuffle([...batch.keys()], keys);
        expect(judgeBatchReceipt(logs, pick(batch, other), asset)).toEqual(pick(answers, other));
      }),
    );
  });

  it('counts a nonce once, for the one whose transfer it was', () => {
    const one = { from: account(0), to: account(1), validAfter: 0n, validBefore: 1n };
    const payment: Authorization = { ...one, value: 5n, nonce: `0x${'ab'.repeat(32)}` };
    const logs = numbered([used(payment), transfer(payment)]);
    const batch = [{ ...payment, value: 6n }, payment, payment];
    expect(judgeBatchReceipt(logs, batch, asset)).toEqual(['failed', 'settled', 'failed']);
    expect(judgeBatchReceipt([...logs, ...logs], batch, asset)).toEqual(['failed', 'settled', 'failed']);
  });

  it('reads addresses and nonces in either case', () => {
    const one = { from: account(0), to: account(1), value: 5n, validAfter: 0n, validBefore: 1n };
    const payment: Authorization = { ...one, nonce: `0x${'AB'.repeat(32)}` };
    const logs = numbered([used({ ...payment, nonce: `0x${'ab'.repeat(32)}` }), transfer(payment)]);
    expect(judgeBatchReceipt(logs, [payment], asset.toLowerCase() as Address)).toEqual(['settled']);
  });

  it('finds nothing in the receipt of a reverted transaction', () => {
    fc.assert(
      fc.property(authorizations, (batch) => {
        expect(judgeBatchReceipt([], batch, asset)).toEqual(batch.map(() => 'failed'));
      }),
    );
  });
});

function shuffle<T>(list: readonly T[], keys: Iterable<number>): T[] {
  const source = keys[Symbol.iterator]();
  return list
    .map((item) => ({ item, key: Number(source.next().value) }))
    .toSorted((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

function pick<T>(list: readonly T[], indexes: readonly number[]): (T | undefined)[] & T[] {
  return indexes.map((index) => list[index]) as T[];
}
