import { setTimeout as sleep } from 'node:timers/promises';
import type { AuditEvent, OutboxEntry, Sql, WriteContext } from '../db/index.ts';
import { writeBatch } from '../db/index.ts';
import { addSeconds } from '../kernel/clock.ts';
import { limits } from '../kernel/limits.ts';
import { batchContract, encodeBatch, judgeBatchReceipt } from './batch-call.ts';
import { type Chain, type Receipt, transferCall } from './chain.ts';
import { suspendPayers } from './payers.sql.ts';
import { authorizationOf, exactPaymentOf, type Payment } from './payment.ts';
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
const firstPollMs = 5;
const slowestPollMs = 250;

export interface BatchDeps {
  context: WriteContext;
  chain: Chain;
  /** Hears of what goes wrong and will be tried again. */
  report(error: unknown): void;
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
): Promise<RecordedBatch | undefined> {
  const { context, chain } = deps;
  const [passing, withCode, fees] = await Promise.all([
    chain.findPassing(payments.map(exactPaymentOf)),
    chain.findWithCode([...new Set(payments.map((payment) => authorizationOf(payment).from))]),
    chain.fees(),
  ]);
  // A payer with code is asked by the token, with all the gas that there is: it could make the whole batch fail.
  const isGood = (payment: Payment, index: number) =>
    passing[index] === true && !withCode.has(authorizationOf(payment).from);
  const good = payments.filter(isGood);
  const bad = payments.filter((payment, index) => !isGood(payment, index));
  await concludeUnsent(deps, bad);
  if (good.length === 0) return undefined;

  return writeBatch(context, async (sql, now) => {
    const taken = await takeForSettling(sql, good, now);
    if (taken.length === 0) return { result: undefined, audits: [] };
    const calls = taken.map((payment) => ({
      target: chain.network.asset.address,
      callData: transferCall(exactPaymentOf(payment)),
    }));
    const transaction = await signWithNextNonce(sql, {
      box: context.box,
      chain,
      to: batchContract,
      data: encodeBatch(calls),
      gas: limits.batchGasBase + limits.batchGasPerItem * BigInt(taken.length),
      fees,
      now,
    });
    await insertTransaction(sql, transaction, taken, addSeconds(now, limits.settlementMarginSeconds));
    return { result: { transaction, payments: taken }, audits: [] };
  });
}

/**
 * Sends a recorded transaction and waits for the chain's word on it; true once its payments are concluded. A transaction that the
 * chain leaves lying is replaced. At the deadline it is left to whoever takes it over.
 */
export async function watchBatch(
  deps: BatchDeps,
  recorded: SettlementTransaction,
  deadline: Date,
): Promise<boolean> {
  const { context, chain } = deps;
  let transaction = recorded;
  await chain.broadcast(transaction.raw);
  for (let pauseMs = firstPollMs; ; pauseMs = Math.min(pauseMs * 1.5, slowestPollMs)) {
    const receipt = await chain.findReceipt(transaction.hashes);
    if (receipt) {
      await conclude(deps, transaction, receipt);
      return true;
    }
    const now = context.clock.now();
    if (now >= addSeconds(transaction.signedAt, stuckSeconds)) {
      const next = await hasten(deps, transaction);
      if (!next) return true;
      transaction = next;
    }
    if (now >= deadline) return false;
    await sleep(pauseMs);
  }
}

/**
 * A transaction that lies too long: signed again with higher fees if it is the one that its relayer's others wait for. Nothing
 * where another transaction has used its nonce (a key that is used elsewhere too): then its payments are concluded.
 */
async function hasten(
  deps: BatchDeps,
  transaction: SettlementTransaction,
): Promise<SettlementTransaction | undefined> {
  const { context, chain } = deps;
  const counted = BigInt(await chain.transactionCount(transaction.relayer));
  if (counted > transaction.relayerNonce) {
    const mined = await chain.findReceipt(transaction.hashes);
    await conclude(
      deps,
      transaction,
      mined ?? { hash: transaction.hashes[0] ?? '0x', reverted: true, logs: [] },
    );
    return undefined;
  }
  if (counted < transaction.relayerNonce || transaction.hashes.length >= versionsMax) return transaction;
  const replaced = await replaceTransaction(context, chain, transaction);
  await chain.broadcast(replaced.raw);
  return replaced;
}

/** Writes what the receipt says of each payment. The transaction's row is closed with them, so that it is told once. */
async function conclude(
  deps: BatchDeps,
  transaction: SettlementTransaction,
  receipt: Receipt,
): Promise<void> {
  const { context, chain } = deps;
  const items = await findItems(context.db, transaction);
  const verdicts = judgeBatchReceipt(receipt.logs, items.map(authorizationOf), chain.network.asset.address);
  const conclusions = await Promise.all(
    items.map(async (payment, index): Promise<Conclusion> => {
      if (verdicts[index] === 'settled') return { payment, state: 'settled', transaction: receipt.hash };
      const found = await concludeByNonce(chain, payment);
      // Reverted as a whole, a batch says nothing of this payment; it may be another's fault.
      return receipt.reverted && items.length > 1 && found.state === 'settlement_failed'
        ? { payment, state: 'responded' }
        : found;
    }),
  );
  await writeBatch(context, async (sql, now) => {
    if (!(await closeTransaction(sql, transaction))) return { result: undefined, audits: [] };
    const changed = await concludePayments(sql, conclusions, ['settling'], now);
    const told = conclusions.filter(({ payment }) => changed.has(payment.id));
    await suspendFailed(sql, told, now);
    return { result: undefined, ...tell(told) };
  });
}

/** These were never sent: perhaps because they were settled already, by a transaction that we, or anyone, sent. */
async function concludeUnsent({ context, chain }: BatchDeps, payments: readonly Payment[]): Promise<void> {
  if (payments.length === 0) return;
  const conclusions = await Promise.all(payments.map((payment) => concludeByNonce(chain, payment)));
  await writeBatch(context, async (sql, now) => {
    const changed = await concludePayments(sql, conclusions, ['responded', 'settlement_failed'], now);
    const told = conclusions.filter(({ payment }) => changed.has(payment.id));
    await suspendFailed(sql, told, now);
    return { result: undefined, ...tell(told) };
  });
}

const usedNonce = 'invalid_transaction_state';

/** What the chain says of a payment whatever became of our transaction. */
async function concludeByNonce(chain: Chain, payment: Payment): Promise<Conclusion> {
  const authorization = authorizationOf(payment);
  const used = await chain.isNonceUsed(authorization.from, authorization.nonce);
  const transaction = used ? await chain.findSettlement(authorization) : undefined;
  if (transaction) return { payment, state: 'settled', transaction };
  return { payment, state: 'settlement_failed', failure: used ? usedNonce : 'insufficient_funds' };
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
function tell(conclusions: readonly Conclusion[]): { audits: AuditEvent[]; outbox: OutboxEntry[] } {
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
      actor: { kind: payment.agentVerified ? 'agent' : 'anonymous', id: payment.agentId },
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
