import { reach } from '#points';
import type { AuditEvent, OutboxEntry, Sql, WriteContext } from '../../db/index.ts';
import { writeBatch } from '../../db/index.ts';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import type { Address } from 'viem';
import { batchGas, encodeBatch, judgeBatchReceipt } from '../chain/batch-call.ts';
import type { Chain } from '../chain/chain.ts';
import type { NonceUse } from '../chain/nonce-use.ts';
import { transferCall } from '../chain/token-calls.ts';
import { suspendPayers } from '../claims/payers.sql.ts';
import { authorizationOf, exactPaymentOf, type Payment, presenterOf } from '../payments/payment.ts';
import type { Receipt } from '../chain/receipts.ts';
import { replaceTransaction, signWithNextNonce } from './relayers.ts';
import {
  closeTransaction,
  concludePayments,
  type Conclusion,
  findItems,
  insertTransaction,
  type SettlementTransaction,
  takeForSettling,
} from './settlements.sql.ts';

/** The topic under which a settled payment is told to whoever holds the payer's budget. */
export const settledTopic = 'payment.settled';

/** A transaction that was left lying for this long is signed again with higher fees: some blocks on any chain of ours. */
const stuckSeconds = 30;
/** Fees rise by a quarter each time; this many versions are three times as dear as the first. */
const versionsMax = 6;
/** How long a dearer version waits for its block before it is looked at again. */
const versionPatienceMs = 250;

export interface BatchDeps {
  context: WriteContext;
  chain: Chain;
  /** Hears of what goes wrong and will be tried again. */
  report(error: unknown): void;
  /** Relayers that were out of gas a while ago, and until when (`performance.now()`) others sign before them. */
  resting?: Map<Address, number>;
}

export interface RecordedBatch {
  transaction: SettlementTransaction;
  payments: Payment[];
}

/**
 * Writes down one transaction that settles these payments, each of which may fail alone. The chain is asked first which of
 * them would go through, so that no gas is spent on those that wouldn't; those are concluded here. Nothing is recorded where
 * none is left, or where other processes have them all.
 */
export async function recordBatch(
  deps: BatchDeps,
  payments: readonly Payment[],
): Promise<{ recorded: RecordedBatch | undefined; told: Conclusion[] }> {
  const { context, chain } = deps;
  const { verdicts, fees } = await chain.examine(payments.map(exactPaymentOf));
  await reach('examined');
  // A payer with code is asked by the token, through Multicall3 with all the gas that there is: it could make the whole batch fail.
  const good = payments.filter((_payment, index) => verdicts[index] === 'passes');
  const told = await concludeUnsent(
    deps,
    payments.filter((_payment, index) => verdicts[index] !== 'passes'),
  );
  if (good.length === 0) return { recorded: undefined, told };

  const recorded = await writeBatch(context, async (sql, now) => {
    const taken = await takeForSettling(sql, good, now);
    if (taken.length === 0) return { result: undefined, audits: [] };
    const calls = taken.map((payment) => ({
      target: chain.network.asset.address,
      callData: transferCall(exactPaymentOf(payment)),
    }));
    const transaction = await signWithNextNonce(sql, {
      box: context.box,
      chain,
      to: chain.batchContract,
      data: encodeBatch(calls),
      gas: batchGas(taken.length),
      fees,
      now,
      avoid: restingNow(deps),
    });
    await insertTransaction(sql, transaction, taken, addSeconds(now, limits.settlementMarginSeconds));
    await reach('recording');
    return { result: { transaction, payments: taken }, audits: [] };
  });
  await reach('recorded');
  return { recorded, told };
}

/**
 * Sends a recorded transaction and waits for the chain's word on it; gives what became of its payments, or nothing where the chain
 * hasn't spoken by the deadline: then it is left to whoever takes it over. A transaction that the chain leaves lying is replaced.
 * @param known its payments, where this process has just recorded it.
 */
export async function watchBatch(
  deps: BatchDeps,
  recorded: SettlementTransaction,
  deadline: Date,
  known?: readonly Payment[],
): Promise<Conclusion[] | undefined> {
  const { context, chain } = deps;
  let transaction = recorded;
  await send(deps, transaction);
  await reach('sent');
  for (;;) {
    const stuckAt = addSeconds(transaction.signedAt, stuckSeconds);
    const untilMs = Math.min(deadline.getTime(), stuckAt.getTime()) - context.clock.now().getTime();
    // Past that, one look decides, and a version that was just sent gets a moment.
    const patienceMs = Math.max(untilMs, transaction === recorded ? 0 : versionPatienceMs);
    const receipt = await chain.findReceipt(transaction.hashes, patienceMs);
    if (receipt) return conclude(deps, transaction, receipt, known);
    const now = context.clock.now();
    if (now >= stuckAt) {
      const next = await hasten(deps, transaction);
      if (Array.isArray(next)) return next;
      transaction = next;
    }
    if (now >= deadline) return undefined;
  }
}

/**
 * A transaction that lies too long: signed again with higher fees if it is the one that its relayer's others wait for. Where another
 * transaction has used its nonce (a key that is used elsewhere too), its payments are concluded instead.
 */
async function hasten(
  deps: BatchDeps,
  transaction: SettlementTransaction,
): Promise<Conclusion[] | SettlementTransaction> {
  const { context, chain } = deps;
  const counted = BigInt(await chain.transactionCount(transaction.relayer));
  if (counted > transaction.relayerNonce) {
    return conclude(deps, transaction, await chain.findReceipt(transaction.hashes));
  }
  if (counted < transaction.relayerNonce || transaction.hashes.length >= versionsMax) {
    return { ...transaction };
  }
  const replaced = await replaceTransaction(context, chain, transaction);
  await send(deps, replaced);
  return replaced;
}

/** What a node says of an account that can't pay for its transaction (geth, reth, anvil). */
const outOfGas = /insufficient funds/i;
const restMs = 60_000;

async function send({ chain, resting }: BatchDeps, { relayer, raw }: SettlementTransaction): Promise<void> {
  try {
    await chain.broadcast(raw);
    resting?.delete(relayer);
  } catch (error) {
    if (error instanceof Error && outOfGas.test(error.message)) {
      resting?.set(relayer, performance.now() + restMs);
    }
    throw error;
  }
}

function restingNow({ resting }: BatchDeps): Address[] {
  const nowMs = performance.now();
  return [...(resting ?? [])].filter(([, untilMs]) => untilMs > nowMs).map(([relayer]) => relayer);
}

/**
 * Writes what the receipt says of each payment; without a receipt, another transaction has used the nonce of ours. The transaction's
 * row is closed with them, so that it is told once. A payment of which the chain gives no clear word keeps it open.
 */
async function conclude(
  deps: BatchDeps,
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
  const uses = await chain.findUses(unsettled.map(authorizationOf));
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
    const isOurs = await closeTransaction(sql, transaction, { state, block: receipt?.block, now });
    return isOurs ? tell(sql, conclusions, ['settling'], now) : { result: [], audits: [] };
  });
}

/** These were never sent: perhaps because they were settled already, by a transaction that we, or anyone, sent. */
async function concludeUnsent(
  { context, chain }: BatchDeps,
  payments: readonly Payment[],
): Promise<Conclusion[]> {
  if (payments.length === 0) return [];
  const uses = await chain.findUses(payments.map(authorizationOf));
  const now = context.clock.now();
  const conclusions = payments.flatMap((payment, index) => concludeByUse(payment, uses[index], now));
  return writeBatch(context, (sql, at) => tell(sql, conclusions, ['responded', 'settlement_failed'], at));
}

/** What the chain says of a payment whatever became of our transaction; nothing where that isn't clear. */
function concludeByUse(payment: Payment, use: NonceUse | undefined, now: Date): Conclusion[] {
  switch (use?.kind) {
    case 'settled':
      return [{ payment, state: 'settled', transaction: use.transaction }];
    case 'cancelled':
      return [{ payment, state: 'settlement_failed', failure: 'invalid_transaction_state' }];
    case 'unused':
      // Whoever is to get money back doesn't ask for it again: it stays due for as long as it can be paid.
      if (payment.refundOf !== null && !isOver(payment, now)) return [{ payment, state: 'responded' }];
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
  const told = [...(await concludePayments(sql, conclusions, from, now)).values()];
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
    const { network, asset, payer, nonce, environmentId } = payment;
    const transaction = state === 'settled' ? conclusion.transaction : null;
    const failure = state === 'settlement_failed' ? { reason: conclusion.failure } : {};
    audits.push({
      action: state === 'settled' ? 'payment.settled' : 'payment.settlement_failed',
      resource: payment.id,
      scope: environmentId,
      actor: presenterOf(payment),
      requestId: null,
      clientAddress: payment.clientAddress,
      data: {
        network,
        asset,
        payer,
        pay_to: payment.payTo,
        amount: payment.amount.toString(),
        transaction,
        ...failure,
      },
    });
    if (transaction === null) continue;
    outbox.push({
      topic: settledTopic,
      scope: environmentId,
      payload: { network, asset, payer, nonce, transaction },
    });
  }
  return { audits, outbox };
}
