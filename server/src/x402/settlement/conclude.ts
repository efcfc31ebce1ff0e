import type { Hex } from 'viem';
import { reach } from '#points';
import {
  type AuditEvent,
  type OutboxEntry,
  type Sql,
  writeBatch,
  type WriteContext,
} from '../../db/index.ts';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { judgeBatchReceipt } from '../chain/batch-call.ts';
import type { Chain } from '../chain/chain.ts';
import type { NonceUse } from '../chain/nonce-use.ts';
import type { Block, Receipt } from '../chain/receipts.ts';
import { suspendPayers } from '../claims/payers.sql.ts';
import { authorizationOf, type Payment, presenterOf } from '../payments/payment.ts';
import { concludePayments, type Conclusion } from './conclusions.sql.ts';
import { failedEvent, settledEvents } from './payment-events.ts';
import { watchOutside } from './outside.sql.ts';
import { closeTransaction, findItems, type SettlementTransaction } from './transactions.sql.ts';

/** What concluding needs: the books, and the chain whose word goes into them. */
export interface ConcludeDeps {
  context: WriteContext;
  chain: Chain;
}

/**
 * Writes what the receipt says of each payment; without a receipt, another transaction has used the nonce of ours. The transaction's
 * row is closed with them, so that it is told once. A payment of which the chain gives no clear word keeps it open.
 */
export async function conclude(
  deps: ConcludeDeps,
  transaction: SettlementTransaction,
  receipt: Receipt | undefined,
  known?: readonly Payment[],
): Promise<Conclusion[]> {
  const { context, chain } = deps;
  await reach('mined');
  const items = known ?? (await findItems(context.db, transaction));
  const logs = receipt?.logs ?? [];
  const verdicts = judgeBatchReceipt(logs, items.map(authorizationOf), chain.network.asset.address);
  const unsettled = items.filter((_payment, index) => verdicts[index] !== 'settled');
  const uses = await findPlacedUses(chain, unsettled);
  // Without a transaction of ours, or where that reverted as a whole, nothing is said of one payment: it may be another's fault.
  const saysNothing = receipt === undefined || (receipt.reverted && items.length > 1);
  const conclusions = items.flatMap((payment, index): Conclusion[] => {
    if (receipt && verdicts[index] === 'settled') {
      return [{ payment, state: 'settled', transaction: receipt.hash }];
    }
    const use = uses[unsettled.indexOf(payment)];
    if (use?.kind === 'unused' && saysNothing) return [{ payment, state: 'responded' }];
    return concludeByUse(payment, use, context.clock.now());
  });
  const state = conclusions.length < items.length ? 'sent' : receipt ? 'mined' : 'final';
  return writeBatch(context, async (sql, now) => {
    const isOurs = await closeTransaction(sql, transaction, { state, block: receipt?.block });
    return isOurs ? tell(sql, conclusions, ['settling'], now) : { result: [], audits: [] };
  });
}

/** These were never sent: perhaps because they were settled already, by a transaction that we, or anyone, sent. */
export async function concludeUnsent(
  { context, chain }: ConcludeDeps,
  payments: readonly Payment[],
): Promise<Conclusion[]> {
  if (payments.length === 0) return [];
  const uses = await findPlacedUses(chain, payments);
  const now = context.clock.now();
  const conclusions = payments.flatMap((payment, index) => concludeByUse(payment, uses[index], now));
  return writeBatch(context, (sql, at) => tell(sql, conclusions, ['responded', 'settlement_failed'], at));
}

/** What became of a nonce; where that is a transfer, with the block that it is in. */
type PlacedUse = Exclude<NonceUse, { kind: 'settled' }> | { kind: 'settled'; transaction: Hex; block: Block };

async function findPlacedUses(chain: Chain, payments: readonly Payment[]): Promise<PlacedUse[]> {
  const uses = await chain.findUses(payments.map(authorizationOf));
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
function concludeByUse(payment: Payment, use: PlacedUse | undefined, now: Date): Conclusion[] {
  switch (use?.kind) {
    case 'settled':
      return [{ payment, state: 'settled', transaction: use.transaction, outside: use.block }];
    case 'cancelled':
      return [{ payment, state: 'settlement_failed', failure: 'invalid_transaction_state' }];
    case 'unused':
      // Whoever is to get money back doesn't ask for it again: it stays due, and is signed anew when it has run out.
      if (payment.refundOf !== null) return [{ payment, state: 'responded' }];
      return [{ payment, state: 'settlement_failed', failure: unusedFailure(payment, now) }];
    // Used, and nobody knows for what: it stays held until the chain answers.
    case 'unknown':
    case undefined:
      return [];
  }
}

function unusedFailure(payment: Payment, now: Date): string {
  return isOver(payment, now) ? 'invalid_exact_evm_payload_authorization_valid_before' : 'insufficient_funds';
}

function isOver({ validBefore }: Payment, now: Date): boolean {
  return validBefore <= BigInt(unixSeconds(now));
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

/** Work was done for these, and their payers have made it worth nothing; for those upfront none was done. */
async function suspendFailed(sql: Sql, conclusions: readonly Conclusion[], now: Date): Promise<void> {
  const failed = conclusions.filter(
    ({ state, payment }) => state === 'settlement_failed' && payment.mode !== 'upfront',
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
