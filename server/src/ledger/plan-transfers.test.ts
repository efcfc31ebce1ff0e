import { isDeepStrictEqual } from 'node:util';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assert } from '../kernel/assert.ts';
import { newId } from '../kernel/ids.ts';
import { accountKey, type Book, planTransfers, transferKey } from './plan-transfers.ts';
import {
  type Account,
  type AccountName,
  type Balance,
  nameOf,
  type Operation,
  type Transfer,
  type TransferResult,
} from './transfer.ts';

const [alice, bob]: AccountName[] = [1, 2].map(() => ({
  environmentId: newId('environment'),
  kind: 'available',
}));
const issued: AccountName = { environmentId: 'instance', kind: 'issued' };
const fees: AccountName = { environmentId: 'instance', kind: 'fees' };
if (!alice || !bob) throw new Error('two accounts');
const names = [alice, bob, issued, fees];
const currencies = ['USDC', 'EURC'];
const accounts: Account[] = names.flatMap((name) => currencies.map((currency) => ({ ...name, currency })));

const anyMovement = fc.record({
  kind: fc.constantFrom('transfer' as const, 'reserve' as const),
  key: fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'),
  debit: fc.constantFrom(...names),
  credit: fc.constantFrom(...names),
  currency: fc.constantFrom(...currencies),
  amount: fc.bigInt(1n, 6n),
});
const anyName = {
  environmentId: fc.constantFrom(...names.map((name) => name.environmentId)),
  key: anyMovement.map(({ key }) => key),
};
const anyOperation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 3, arbitrary: anyMovement },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('post' as const), ...anyName }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('post' as const), ...anyName, amount: fc.bigInt(1n, 7n) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('void' as const), ...anyName }) },
);
/** Batches, so that what is decided in memory and what was written before both count. */
const anyBatches = fc.array(fc.array(anyOperation, { maxLength: 12 }), { maxLength: 8 });

/** The slow and plain way: a list of what happened, and every balance counted anew from it. */
class NaiveLedger {
  readonly log: Transfer[] = [];

  balance(account: Account): Balance {
    let [balance, held] = [0n, 0n];
    for (const entry of this.log) {
      if (entry.currency !== account.currency) continue;
      const moved = entry.resolution?.amount ?? (entry.twoPhase ? 0n : entry.amount);
      if (accountKey({ ...entry.debit, currency: entry.currency }) === accountKey(account)) {
        balance -= moved;
        if (entry.twoPhase && !entry.resolution) held += entry.amount;
      }
      if (accountKey({ ...entry.credit, currency: entry.currency }) === accountKey(account)) balance += moved;
    }
    return { balance, held };
  }

  apply(operation: Operation): TransferResult {
    const { environmentId, key } = nameOf(operation);
    const entry = this.log.find((each) => each.debit.environmentId === environmentId && each.key === key);
    return operation.kind === 'post' || operation.kind === 'void'
      ? this.#end(operation, entry)
      : this.#begin(operation, entry);
  }

  #begin(
    operation: Operation & { kind: 'transfer' | 'reserve' },
    entry: Transfer | undefined,
  ): TransferResult {
    const { kind, ...movement } = operation;
    const twoPhase = kind === 'reserve';
    if (entry) {
      const { resolution, ...same } = entry;
      if (!isDeepStrictEqual(same, { ...movement, twoPhase }))
        return { kind: 'conflict', reason: 'key_reused' };
      if (resolution) return { kind: 'duplicate', state: resolution.outcome, amount: resolution.amount };
      return { kind: 'duplicate', state: twoPhase ? 'pending' : 'posted', amount: movement.amount };
    }
    const { balance, held } = this.balance({ ...movement.debit, currency: movement.currency });
    if (movement.debit.kind !== 'issued' && balance < held + movement.amount)
      return { kind: 'insufficient_funds', available: balance - held };
    this.log.push({ ...movement, twoPhase, resolution: null });
    return { kind: 'ok', state: twoPhase ? 'pending' : 'posted', amount: movement.amount };
  }

  #end(operation: Operation & { kind: 'post' | 'void' }, entry: Transfer | undefined): TransferResult {
    if (!entry) return { kind: 'conflict', reason: 'transfer_not_found' };
    if (!entry.twoPhase) return { kind: 'conflict', reason: 'transfer_not_reserved' };
    const outcome = operation.kind === 'post' ? 'posted' : 'voided';
    const amount = operation.kind === 'post' ? (operation.amount ?? entry.amount) : 0n;
    if (entry.resolution) {
      if (entry.resolution.outcome === outcome && entry.resolution.amount === amount)
        return { kind: 'duplicate', state: outcome, amount };
      return { kind: 'conflict', reason: `already_${entry.resolution.outcome}` };
    }
    if (amount > entry.amount) return { kind: 'conflict', reason: 'exceeds_reserved' };
    entry.resolution = { outcome, amount };
    return { kind: 'ok', state: outcome, amount };
  }
}

/** What the database does with a plan. */
class WrittenBook implements Book {
  readonly accounts = new Map<string, Balance>();
  readonly transfers = new Map<string, Transfer>();

  run(operations: readonly Operation[]): TransferResult[] {
    const plan = planTransfers(this, operations);
    for (const transfer of plan.transfers) {
      const name = transferKey({ environmentId: transfer.debit.environmentId, key: transfer.key });
      assert(!this.transfers.has(name), 'a plan makes no transfer twice');
      this.transfers.set(name, { ...transfer, resolution: null });
    }
    for (const { environmentId, key, outcome, amount } of plan.resolutions) {
      const transfer = this.transfers.get(transferKey({ environmentId, key }));
      assert(transfer?.twoPhase && !transfer.resolution, 'a plan ends only what is pending');
      transfer.resolution = { outcome, amount };
    }
    for (const [key, by] of plan.changes) {
      const before = this.accounts.get(key) ?? { balance: 0n, held: 0n };
      this.accounts.set(key, { balance: before.balance + by.balance, held: before.held + by.held });
    }
    return plan.results;
  }
}

describe('over any sequence of operations, planTransfers', () => {
  it('answers as a ledger does that counts everything anew, however they are batched', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(anyBatches, (batches) => {
        const [book, naive] = [new WrittenBook(), new NaiveLedger()];
        for (const batch of batches) {
          const expected = batch.map((operation) => naive.apply(operation));
          expect(book.run(batch)).toEqual(expected);
          for (const result of expected) seen.add(result.kind === 'conflict' ? result.reason : result.kind);
          for (const account of accounts)
            expect(book.accounts.get(accountKey(account)) ?? { balance: 0n, held: 0n }).toEqual(
              naive.balance(account),
            );
        }
      }),
      { numRuns: 500 },
    );
    // Otherwise the sequences would be too tame to prove anything.
    expect([...seen].toSorted()).toEqual([
      'already_posted',
      'already_voided',
      'duplicate',
      'exceeds_reserved',
      'insufficient_funds',
      'key_reused',
      'ok',
      'transfer_not_found',
      'transfer_not_reserved',
    ]);
  });

  it('never lets an account below zero, nor below what it holds, and keeps each currency’s sum at zero', () => {
    fc.assert(
      fc.property(anyBatches, (batches) => {
        const book = new WrittenBook();
        for (const batch of batches) {
          book.run(batch);
          const sums: Record<string, bigint> = {};
          for (const [key, { balance, held }] of book.accounts) {
            const [, kind, currency = ''] = key.split('/');
            sums[currency] = (sums[currency] ?? 0n) + balance;
            expect(held >= 0n).toBe(true);
            if (kind !== 'issued') expect(balance >= held).toBe(true);
          }
          for (const sum of Object.values(sums)) expect(sum).toBe(0n);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('changes nothing when all that was done is asked for again', () => {
    fc.assert(
      fc.property(anyBatches, (batches) => {
        const book = new WrittenBook();
        const done = batches.flatMap((batch) => {
          const results = book.run(batch);
          return batch.filter((_, index) => results[index]?.kind === 'ok');
        });
        const before = structuredClone(book.accounts);
        const again = book.run(done);
        expect(again.map(({ kind }) => kind)).toEqual(done.map(() => 'duplicate'));
        expect(book.accounts).toEqual(before);
      }),
      { numRuns: 300 },
    );
  });
});

describe('planTransfers', () => {
  it('leaves a pending transfer alone whose account was not locked for this batch', () => {
    const movement = { key: 'k', debit: alice, credit: bob, currency: 'USDC', amount: 1n };
    const book: Book = {
      accounts: new Map(),
      transfers: new Map([
        [transferKey({ ...alice, key: 'k' }), { ...movement, twoPhase: true, resolution: null }],
      ]),
    };
    expect(
      planTransfers(book, [{ kind: 'post', environmentId: alice.environmentId, key: 'k' }]),
    ).toMatchObject({
      results: [{ kind: 'conflict', reason: 'transfer_not_found' }],
      resolutions: [],
    });
  });
});
