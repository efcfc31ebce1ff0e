import type { Sql, Transaction } from '../db/index.ts';
import { assert } from '../kernel/assert.ts';
import type { AtomicAmount } from '../kernel/money.ts';
import { findTransfers, insertPlan, lockAccounts } from './ledger.sql.ts';
import { type Book, planTransfers } from './plan-transfers.ts';
import {
  type Account,
  assertOperation,
  type Movement,
  nameOf,
  type Operation,
  type TransferName,
  type TransferResult,
} from './transfer.ts';

/**
 * Decides and writes operations in their order, in the caller's transaction: a `write()`, whose outcome then writes the
 * audit event, or the lane's. Each succeeds or fails alone. Locks the accounts until the transaction ends, so that one
 * transaction calls it once, or risks to be rolled back and run again by a deadlock.
 * @param opened by `openBook`, for these operations at least.
 */
export async function applyTransfers(
  sql: Transaction,
  operations: readonly Operation[],
  now: Date,
  opened?: Book,
): Promise<TransferResult[]> {
  const book = opened ?? (await openBook(sql, operations));
  const plan = planTransfers(book, operations);
  if (plan.changes.size > 0) insertPlan(sql, plan, book.accounts, now);
  return plan.results;
}

/**
 * Locks what operations are decided on, for a caller who knows which may come before it knows which do: its own statements and
 * these then go out together, and it locks nothing of the ledger's before anything else that it waits for.
 */
export async function openBook(sql: Sql, operations: readonly Operation[]): Promise<Book> {
  operations.forEach(assertOperation);
  const ending = operations.filter(({ kind }) => kind === 'post' || kind === 'void').map(nameOf);
  // Sent together: the second statement still sees what was committed before the locks were had.
  const [accounts, transfers] = await Promise.all([
    lockAccounts(sql, operations.flatMap(accountsOf), ending),
    findTransfers(sql, operations.map(nameOf)),
  ]);
  return { accounts, transfers };
}

/** Takes an amount from what can be spent, for a `post` or `void` to come. There is no time-out: the caller ends it. */
export async function reserve(sql: Transaction, movement: Movement, now: Date): Promise<TransferResult> {
  return applyOne(sql, { kind: 'reserve', ...movement }, now);
}

/** Moves what was reserved, or `amount` of it and gives back the rest. */
export async function post(
  sql: Transaction,
  name: TransferName & { amount?: AtomicAmount },
  now: Date,
): Promise<TransferResult> {
  return applyOne(sql, { kind: 'post', ...name }, now);
}

/** Gives back all that was reserved. */
export async function voidTransfer(sql: Transaction, name: TransferName, now: Date): Promise<TransferResult> {
  return applyOne(sql, { kind: 'void', ...name }, now);
}

/** Moves an amount at once. */
export async function transfer(sql: Transaction, movement: Movement, now: Date): Promise<TransferResult> {
  return applyOne(sql, { kind: 'transfer', ...movement }, now);
}

async function applyOne(sql: Transaction, operation: Operation, now: Date): Promise<TransferResult> {
  const [result] = await applyTransfers(sql, [operation], now);
  assert(result, 'each operation has a result');
  return result;
}

/** Which accounts it decides on, as far as it says so itself. What is reserved concerns the credit account only later. */
function accountsOf(operation: Operation): Account[] {
  if (operation.kind === 'post' || operation.kind === 'void') return [];
  const { debit, credit, currency } = operation;
  const names = operation.kind === 'reserve' ? [debit] : [debit, credit];
  return names.map(({ environmentId, kind }) => ({ environmentId, kind, currency }));
}
