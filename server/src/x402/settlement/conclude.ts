import type { Hex } from 'viem';
import { reach } from '#points';
import {
  type AuditEvent,
  type Database,
  type OutboxEntry,
  type Sql,
  writeBatch,
  type WriteContext,
} from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { judgeBatchReceipt } from '../chain/batch-call.ts';
import type { Chain } from '../chain/chain.ts';
import { ChainUnavailableError } from '../chain/json-rpc.ts';
import type { NonceUse } from '../chain/nonce-use.ts';
import type { Block, Receipt } from '../chain/receipts.ts';
import { suspendPayers } from '../claims/payers.sql.ts';
import { authorizationOf, exactPaymentOf, type Payment, presenterOf } from '../payments/payment.ts';
import { concludePayments, type Conclusion, findFundsBlock } from './conclusions.sql.ts';
import { failedEvent, settledEvents } from '../payments/payment-events.ts';
import { watchOutside } from './outside.sql.ts';
import { judgeUnused } from './unused-nonce.ts';
import { closeTransaction, findItems, type SettlementTransaction } from './transactions.sql.ts';

/** What concluding needs: the books, and the chain whose word goes into them. */
export interface ConcludeDeps {
  context: WriteContext;
  chain: Chain;
  /** The same database, by connections that plan each statement once; the context's own where there are none. */
  batches?: Database;
}

/** What hot batches are written with. */
export function batchContext({ context, batches }: ConcludeDeps): Pick<WriteContext, 'clock' | 'db'> {
  return { clock: context.clock, db: batches ?? context.db };
}

/** Hears of what goes wrong and will be tried again. */
export interface Reporting {
  report(error: unknown): void;
}

/** What is known of a transaction that was sent. */
export interface KnownEnd {
  receipt: Receipt | undefined;
  /** Where there is no receipt: by which block its nonce was used, deep enough for any node to have a receipt if there were one. */
  usedBy?: bigint;
  /** Its payments, where this process has just recorded them. */
  payments?: readonly Payment[] | undefined;
}

/**
 * Writes what the receipt says of each payment; without a receipt, another transaction has used the nonce of ours. The transaction's
 * row is closed with them, so that it is told once. A payment of which the chain gives no clear word keeps it open.
 */
export async function conclude(
  deps: ConcludeDeps & Reporting,
  transaction: SettlementTransaction,
  { receipt, usedBy, payments }: KnownEnd,
): Promise<Conclusion[]> {
  const { context, chain } = deps;
  await reach('mined');
  const items = payments ?? (await findItems(context.db, transaction));
  const logs = receipt?.logs ?? [];
  const verdicts = judgeBatchReceipt(logs, items.map(authorizationOf), chain.network.asset.address);
  const unsettled = items.filter((_payment, index) => verdicts[index] !== 'settled');
  const uses = await findUsesIfAny(deps, unsettled, receipt, usedBy);
  // Without a transaction of ours, or where that reverted as a whole, nothing is said of one payment: it may be another's fault.
  const saysNothing = receipt === undefined || (receipt.reverted && items.length > 1);
  const judgedAt = context.clock.now();
  const conclusions = items.flatMap((payment, index): Conclusion[] => {
    if (receipt && verdicts[index] === 'settled') {
      return [{ payment, state: 'settled', transaction: receipt.hash, block: receipt.block }];
    }
    const use = uses[unsettled.indexOf(payment)];
    if (use?.kind === 'unused' && saysNothing) return [{ payment, state: 'responded' }];
    const told = concludeByUse(payment, use, judgedAt);
    // It was mined too early: it goes into another.
    return told === 'early' || told === 'passes' ? [{ payment, state: 'responded' }] : told;
  });
  const isOver = conclusions.length === items.length;
  const state = !isOver ? 'sent' : receipt ? 'mined' : 'final';
  return writeBatch(batchContext(deps), async (sql, now) => {
    const isOurs = await closeTransaction(sql, transaction, {
      state,
      block: isOver ? receipt?.block : undefined,
    });
    if (!isOurs) return { result: [], audits: [] };
    // While the transaction stays open its block isn't watched, and what is told of it has to be.
    const told = isOver ? conclusions : conclusions.map(watchedByItself);
    return tell(sql, told, ['settling'], now);
  });
}

/** What settled payments were told by doesn't wait for a node that has the others' state. */
async function findUsesIfAny(
  deps: ConcludeDeps & Reporting,
  payments: readonly Payment[],
  receipt: Receipt | undefined,
  usedBy: bigint | undefined,
): Promise<readonly (PlacedUse | undefined)[]> {
  const tried = receipt?.block;
  try {
    return await findPlacedUses(deps, payments, { tried, since: usedBy });
  } catch (error) {
    if (!(error instanceof ChainUnavailableError)) throw error;
    deps.report(error);
    return [];
  }
}

function watchedByItself(conclusion: Conclusion): Conclusion {
  return conclusion.state === 'settled' ? { ...conclusion, isWatchedByItself: true } : conclusion;
}

/**
 * These were never sent, as a node says that they wouldn't go through `behind` others: perhaps because they were settled already, by a
 * transaction that we, or anyone, sent. Gives those besides that may be sent after all, and those whose time hasn't come.
 */
export async function concludeUnsent(
  deps: ConcludeDeps,
  payments: readonly Payment[],
  behind: readonly Payment[] = [],
): Promise<{ told: Conclusion[]; passing: Payment[]; early: Payment[] }> {
  if (payments.length === 0) return { told: [], passing: [], early: [] };
  const { context } = deps;
  const trial = { payments: payments.map(exactPaymentOf), before: behind.map(exactPaymentOf) };
  const uses = await findPlacedUses(deps, payments, { trial });
  const now = context.clock.now();
  const verdicts = payments.map((payment, index) => concludeByUse(payment, uses[index], now));
  const conclusions = verdicts.flatMap((verdict) => (typeof verdict === 'string' ? [] : verdict));
  const told = await writeBatch(context, (sql, at) =>
    tell(sql, conclusions, ['responded', 'settlement_failed'], at),
  );
  return {
    told,
    passing: payments.filter((_payment, index) => verdicts[index] === 'passes'),
    early: payments.filter((_payment, index) => verdicts[index] === 'early'),
  };
}

/** What became of a nonce; where that is a transfer, with the block that it is in. */
type PlacedUse = Exclude<NonceUse, { kind: 'settled' }> | { kind: 'settled'; transaction: Hex; block: Block };

/**
 * Looks no further back than where the payers' money was seen when they were let in, perhaps by another process. A local chain is one node,
 * and may have forgotten that block.
 */
async function findPlacedUses(
  { context, chain }: ConcludeDeps,
  payments: readonly Payment[],
  { since = 0n, ...look }: NonNullable<Parameters<Chain['findUses']>[1]>,
): Promise<PlacedUse[]> {
  const known =
    chain.forgetsBlocks || payments.length === 0 ? 0n : await findFundsBlock(context.db, payments);
  const uses = await chain.findUses(payments.map(authorizationOf), {
    ...look,
    since: since > known ? since : known,
  });
  const blocks = new Map<Hex, Block | undefined>();
  for (const use of uses)
    if (use.kind === 'settled' && !blocks.has(use.transaction))
      blocks.set(use.transaction, (await chain.findReceipt([use.transaction]))?.block);
  return uses.map((use) => {
    if (use.kind !== 'settled') return use;
    const block = blocks.get(use.transaction);
    // Gone again since it was found.
    return block ? { ...use, block } : { kind: 'unknown' };
  });
}

/** What the chain says of a payment whatever became of our transaction; nothing where that isn't clear. */
function concludeByUse(
  payment: Payment,
  use: PlacedUse | undefined,
  now: Date,
): 'early' | 'passes' | Conclusion[] {
  switch (use?.kind) {
    case 'settled': {
      const { transaction, block } = use;
      return [{ payment, state: 'settled', transaction, block, isWatchedByItself: true }];
    }
    case 'cancelled':
      return [{ payment, state: 'settlement_failed', failure: 'invalid_transaction_state', byPayer: true }];
    case 'unused': {
      const verdict = judgeUnused(payment, use, now);
      if (verdict.kind !== 'failed') return verdict.kind;
      // Whoever is to get money back doesn't ask for it again: it stays due, and is signed anew when it has run out.
      if (payment.refundOf !== null) return [{ payment, state: 'responded' }];
      const { failure, byPayer } = verdict;
      return [{ payment, state: 'settlement_failed', failure, byPayer }];
    }
    // Used, and nobody knows for what: it stays held until the chain answers.
    case 'unknown':
    case undefined:
      return [];
  }
}

/** Writes conclusions of payments in these states, with all that has to hear of them; gives those that were in one. */
async function tell(
  sql: Sql,
  conclusions: readonly Conclusion[],
  from: Parameters<typeof concludePayments>[2],
  now: Date,
): Promise<{ result: Conclusion[]; audits: AuditEvent[]; outbox: OutboxEntry[] }> {
  const told = [...(await concludePayments(sql, conclusions, from)).values()];
  await watchOutside(sql, told);
  await suspendFailed(sql, told, now);
  return { result: told, ...eventsOf(told) };
}

/** Work was done for some of these, and their payers have made it worth nothing; for those upfront none was done. */
async function suspendFailed(sql: Sql, conclusions: readonly Conclusion[], now: Date): Promise<void> {
  const failed = conclusions.filter(
    (one) => one.state === 'settlement_failed' && one.byPayer && one.payment.mode !== 'upfront',
  );
  const until = addSeconds(now, limits.payerSuspensionSeconds);
  await suspendPayers(
    sql,
    failed.map(({ payment }) => payment),
    until,
  );
}

/** One audit event for each outcome, by whoever paid; and what the payer's wallet has to hear. */
function eventsOf(conclusions: readonly Conclusion[]): { audits: AuditEvent[]; outbox: OutboxEntry[] } {
  const audits: AuditEvent[] = [];
  const outbox: OutboxEntry[] = [];
  for (const conclusion of conclusions) {
    const { payment, state } = conclusion;
    if (state === 'responded') continue;
    const origin = { actor: presenterOf(payment), requestId: null, clientAddress: payment.clientAddress };
    if (state === 'settlement_failed') {
      audits.push(failedEvent(payment, conclusion.failure, origin));
      continue;
    }
    const told = settledEvents(payment, conclusion.transaction, origin);
    audits.push(told.audit);
    outbox.push(told.outbox);
  }
  return { audits, outbox };
}
