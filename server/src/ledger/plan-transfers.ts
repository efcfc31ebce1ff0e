import {
  type Account,
  type AccountName,
  type Balance,
  type ConflictReason,
  type Movement,
  nameOf,
  type Operation,
  type Resolution,
  type Transfer,
  type TransferName,
  type TransferResult,
} from './transfer.ts';

/** What a batch is decided on: the accounts that are locked, and the transfers that its operations name. */
export interface Book {
  /** By `accountKey`. One that isn't here has nothing. */
  accounts: ReadonlyMap<string, Balance>;
  /** By `transferKey`. */
  transfers: ReadonlyMap<string, Transfer>;
}

/** What is to be written. `results` stand in the order of the operations. */
export interface Plan {
  results: TransferResult[];
  transfers: (Movement & { twoPhase: boolean })[];
  resolutions: (TransferName & Resolution)[];
  /** What is added to each account that changes, by `accountKey`. */
  changes: Map<string, Account & Balance>;
}

export function accountKey({ environmentId, kind, currency }: Account): string {
  return `${environmentId}/${kind}/${currency}`;
}

export function transferKey({ environmentId, key }: TransferName): string {
  return `${environmentId}/${key}`;
}

/** Decides operations one after another, each on what those before it left. Changes nothing that it was given. */
export function planTransfers(book: Book, operations: readonly Operation[]): Plan {
  const draft: Draft = { book, made: new Map(), transfers: [], resolutions: [], changes: new Map() };
  const results = operations.map((operation) => plan(draft, operation));
  const { transfers, resolutions, changes } = draft;
  return { results, transfers, resolutions, changes };
}

interface Draft extends Omit<Plan, 'results'> {
  book: Book;
  /** Transfers of this batch, and those that it ended, as they stand. */
  made: Map<string, Transfer>;
}

function plan(draft: Draft, operation: Operation): TransferResult {
  const name = transferKey(nameOf(operation));
  const known = draft.made.get(name) ?? draft.book.transfers.get(name);
  switch (operation.kind) {
    case 'transfer':
    case 'reserve':
      return known ? repeat(known, operation) : begin(draft, name, operation);
    case 'post':
    case 'void':
      return known ? end(draft, name, known, operation) : conflict('transfer_not_found');
  }
}

function repeat(known: Transfer, operation: Movement & { kind: 'transfer' | 'reserve' }): TransferResult {
  const same =
    known.twoPhase === (operation.kind === 'reserve') &&
    known.amount === operation.amount &&
    known.currency === operation.currency &&
    isSameAccount(known.debit, operation.debit) &&
    isSameAccount(known.credit, operation.credit);
  if (!same) return conflict('key_reused');
  const { outcome, amount } = known.resolution ?? {
    outcome: known.twoPhase ? ('pending' as const) : ('posted' as const),
    amount: known.amount,
  };
  return { kind: 'duplicate', state: outcome, amount };
}

function begin(
  draft: Draft,
  name: string,
  operation: Movement & { kind: 'transfer' | 'reserve' },
): TransferResult {
  const { key, debit, credit, currency, amount } = operation;
  const { balance, held } = balanceNow(draft, { ...debit, currency });
  const available = balance - held;
  if (debit.kind !== 'issued' && amount > available) return { kind: 'insufficient_funds', available };

  const twoPhase = operation.kind === 'reserve';
  const movement = { key, debit, credit, currency, amount };
  if (twoPhase) {
    change(draft, { ...debit, currency }, { balance: 0n, held: amount });
  } else {
    move(draft, movement, amount, 0n);
  }
  draft.transfers.push({ ...movement, twoPhase });
  draft.made.set(name, { ...movement, twoPhase, resolution: null });
  return { kind: 'ok', state: twoPhase ? 'pending' : 'posted', amount };
}

function end(
  draft: Draft,
  name: string,
  known: Transfer,
  operation: Operation & { kind: 'post' | 'void' },
): TransferResult {
  // It was made after the accounts were locked, and so after this operation.
  if (!isAtHand(draft, { ...known.debit, currency: known.currency })) return conflict('transfer_not_found');
  if (!known.twoPhase) return conflict('transfer_not_reserved');
  const wanted: Resolution =
    operation.kind === 'post'
      ? { outcome: 'posted', amount: operation.amount ?? known.amount }
      : { outcome: 'voided', amount: 0n };
  if (known.resolution) {
    const { outcome, amount } = known.resolution;
    if (outcome === wanted.outcome && amount === wanted.amount)
      return { kind: 'duplicate', state: outcome, amount };
    return conflict(outcome === 'posted' ? 'already_posted' : 'already_voided');
  }
  if (wanted.amount > known.amount) return conflict('exceeds_reserved');

  move(draft, known, wanted.amount, known.amount);
  draft.resolutions.push({ environmentId: known.debit.environmentId, key: known.key, ...wanted });
  draft.made.set(name, { ...known, resolution: wanted });
  return { kind: 'ok', state: wanted.outcome, amount: wanted.amount };
}

function move(draft: Draft, movement: Movement, amount: bigint, released: bigint): void {
  const { debit, credit, currency } = movement;
  change(draft, { ...debit, currency }, { balance: -amount, held: -released });
  if (amount > 0n) change(draft, { ...credit, currency }, { balance: amount, held: 0n });
}

function change(draft: Draft, account: Account, by: Balance): void {
  const key = accountKey(account);
  const { balance, held } = draft.changes.get(key) ?? { balance: 0n, held: 0n };
  const { environmentId, kind, currency } = account;
  draft.changes.set(key, {
    environmentId,
    kind,
    currency,
    balance: balance + by.balance,
    held: held + by.held,
  });
}

function balanceNow(draft: Draft, account: Account): Balance {
  const key = accountKey(account);
  const before = draft.book.accounts.get(key) ?? { balance: 0n, held: 0n };
  const by = draft.changes.get(key) ?? { balance: 0n, held: 0n };
  return { balance: before.balance + by.balance, held: before.held + by.held };
}

function isAtHand(draft: Draft, account: Account): boolean {
  const key = accountKey(account);
  return draft.book.accounts.has(key) || draft.changes.has(key);
}

function isSameAccount(one: AccountName, other: AccountName): boolean {
  return one.environmentId === other.environmentId && one.kind === other.kind;
}

function conflict(reason: ConflictReason): TransferResult {
  return { kind: 'conflict', reason };
}
