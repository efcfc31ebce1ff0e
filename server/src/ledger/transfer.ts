import type { Scope } from '../db/index.ts';
import { assert } from '../kernel/assert.ts';
import { limits } from '../kernel/limits.ts';
import type { AtomicAmount } from '../kernel/money.ts';

/**
 * `available` is an environment's credits. `issued` and `fees` are the instance's: credits are given out by debiting
 * `issued`, the only account that may go below zero, and taken back by crediting it.
 */
export type AccountKind = 'available' | 'fees' | 'issued';

/** An account of a transfer's currency. The counter-accounts' environment is `instance`. */
export interface AccountName {
  environmentId: Scope;
  kind: AccountKind;
}

export interface Account extends AccountName {
  currency: string;
}

/** `held` is the part of `balance` that pending transfers have reserved; the rest can be spent. */
export interface Balance {
  balance: AtomicAmount;
  held: AtomicAmount;
}

/** A transfer's name: the environment of its debit account, and the caller's key. The same key moves nothing twice. */
export interface TransferName {
  environmentId: Scope;
  key: string;
}

export interface Movement {
  key: string;
  debit: AccountName;
  credit: AccountName;
  currency: string;
  amount: AtomicAmount;
}

export interface Transfer extends Movement {
  /** Whether it was reserved first; otherwise it posted at once. */
  twoPhase: boolean;
  /** How a reserved one ended; `amount` is what was moved, zero where it was voided. */
  resolution: Resolution | null;
}

export interface Resolution {
  outcome: 'posted' | 'voided';
  amount: AtomicAmount;
}

/** `post` moves all that was reserved, or `amount` of it and gives back the rest. */
export type Operation =
  | ({ kind: 'transfer' | 'reserve' } & Movement)
  | ({ kind: 'post'; amount?: AtomicAmount } & TransferName)
  | ({ kind: 'void' } & TransferName);

export type TransferState = 'pending' | 'posted' | 'voided';

export type ConflictReason =
  /** The key names a transfer between other accounts, of another amount, or of the other kind. */
  | 'key_reused'
  | 'transfer_not_found'
  /** It posted at once, and was never reserved. */
  | 'transfer_not_reserved'
  | 'already_posted'
  | 'already_voided'
  | 'exceeds_reserved';

/**
 * `ok`: done now. `duplicate`: done before, and this is how it stands. `amount` is what is reserved or was moved.
 * The others changed nothing and are not remembered: the same key may be tried again.
 */
export type TransferResult =
  | { kind: 'ok' | 'duplicate'; state: TransferState; amount: AtomicAmount }
  | { kind: 'insufficient_funds'; available: AtomicAmount }
  | { kind: 'conflict'; reason: ConflictReason };

/** What an operation names: the transfer that it makes, or ends. */
export function nameOf(operation: Operation): TransferName {
  const { key } = operation;
  if (operation.kind === 'post' || operation.kind === 'void')
    return { environmentId: operation.environmentId, key };
  return { environmentId: operation.debit.environmentId, key };
}

/** Stops on an operation that no caller may ask for; whether there is money for it is decided later. */
export function assertOperation(operation: Operation): void {
  const { key, amount } = operation as { key: string; amount?: bigint };
  assert(key !== '' && key.length <= limits.transferKeyCharacters, 'a transfer has a key of a fair length');
  assert(amount === undefined || amount > 0n, 'a transfer moves more than nothing');
  if (operation.kind === 'post' || operation.kind === 'void') return;
  for (const { environmentId, kind } of [operation.debit, operation.credit]) {
    assert(
      (kind === 'available') === (environmentId !== 'instance'),
      `${kind} isn't an account of ${environmentId}`,
    );
  }
  assert(operation.currency !== '', 'a transfer has a currency');
}
