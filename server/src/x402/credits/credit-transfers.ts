import { reach } from '#points';
import type { AuditEvent, Origin, Sql, Transaction } from '../../db/index.ts';
import { assert } from '../../kernel/assert.ts';
import type { EnvironmentId } from '../../kernel/ids.ts';
import { applyTransfers, type Book, openBook, type Operation } from '../../ledger/index.ts';
import { endAttempts } from '../claims/attempts.sql.ts';
import { withdrawClaims } from '../claims/claims.sql.ts';
import { transferKey } from './credit-payment.ts';
import type { Payment } from '../payments/payment.ts';
import { settledEvents } from '../payments/payment-events.ts';

/** What attempts of one transaction ask of the ledger. */
export interface CreditMoves {
  /** Just begun, in this transaction: each needs its amount reserved. */
  begun: readonly Payment[];
  /** Just ended, in this transaction. */
  ended: readonly { payment: Payment; charged: boolean }[];
}

/**
 * Reserves, posts and voids what attempts need, all at once, as the ledger's accounts are locked last and until the end. Gives
 * the ids of the begun ones that there are no credits for: these are taken back, a claim as if nobody had ever seen it.
 * @param book opened for these moves at least.
 */
export async function moveCredits(
  sql: Transaction,
  moves: CreditMoves,
  now: Date,
  book?: Book,
): Promise<Set<string>> {
  const { begun, ended } = moves;
  const operations = operationsOf(moves);
  if (operations.length === 0) return new Set();

  const results = await applyTransfers(sql, operations, now, book);
  if (begun.length > 0) await reach('reserving');
  if (ended.some(({ charged }) => charged)) await reach('capturing');
  if (ended.some(({ charged }) => !charged)) await reach('releasing');
  for (const result of results.slice(0, ended.length))
    assert(result.kind === 'ok', 'an attempt that ends has its amount reserved');
  const reserved = results.slice(results.length - begun.length);
  const refused = begun.filter((_payment, index) => reserved[index]?.kind !== 'ok');
  await takeBack(sql, refused, now);
  return new Set(refused.map(({ id }) => id));
}

/** Opens the ledger for moves that may be made: each of them, or not. */
export function openCreditBook(sql: Sql, moves: CreditMoves): Promise<Book> {
  return openBook(sql, operationsOf(moves));
}

function operationsOf({ begun, ended }: CreditMoves): Operation[] {
  // An attempt that was given up with its process may still have its reservation.
  const again = begun.filter(({ attempt }) => attempt > 1);
  return [
    ...ended.map(({ payment, charged }) => ({
      kind: charged ? ('post' as const) : ('void' as const),
      ...nameOf(payment),
    })),
    ...again.map((payment) => ({
      kind: 'void' as const,
      ...nameOf({ ...payment, attempt: payment.attempt - 1 }),
    })),
    ...begun.map(reservation),
  ];
}

async function takeBack(sql: Sql, refused: readonly Payment[], now: Date): Promise<void> {
  const claims = refused.filter(({ attempt }) => attempt === 1);
  const retries = refused.filter(({ attempt }) => attempt > 1);
  if (claims.length > 0) await withdrawClaims(sql, claims);
  if (retries.length === 0) return;
  const open = {
    state: 'open',
    failure: 'insufficient_funds',
    transaction: null,
    delivery: null,
    leaseUntil: null,
    replayable: true,
    stored: null,
  } as const;
  await endAttempts(
    sql,
    retries.map((payment) => ({ payment, ...open })),
    now,
    now,
  );
}

/** What a charged credit payment is told with. No budget here waits to hear of it: a wallet's payments are on a chain. */
export function tellCharged(payment: Payment, origin: Origin): AuditEvent {
  return settledEvents(payment, transferKey(payment), origin).audit;
}

function reservation(payment: Payment): Operation {
  const { environmentId, key } = nameOf(payment);
  return {
    kind: 'reserve',
    key,
    debit: { environmentId, kind: 'available' },
    credit: { environmentId: payment.payTo as EnvironmentId, kind: 'available' },
    currency: payment.asset,
    amount: payment.amount,
  };
}

/** A credit payment's payer is an environment. */
function nameOf(payment: Payment): { environmentId: EnvironmentId; key: string } {
  return { environmentId: payment.payer as EnvironmentId, key: transferKey(payment) };
}
