import { setTimeout as sleep } from 'node:timers/promises';
import { write, type WriteContext } from '../db/index.ts';
import { addSeconds } from '../kernel/clock.ts';
import { limits } from '../kernel/limits.ts';
import type { Chain } from './chain.ts';
import { authorizationOf, exactPaymentOf, type Payment } from './payment.ts';
import { beginSettling, findPayment, markSettled, markSettlementFailed } from './payments.sql.ts';
import {
  closeTransactions,
  findRelayerAddress,
  findSentTransaction,
  recordTransaction,
  type SettlementTransaction,
} from './relayers.ts';

/** What became of a settlement, as far as it is known now. `pending` is never the last word. */
export type Settlement =
  | { kind: 'failed'; reason: string }
  | { kind: 'pending' }
  | { kind: 'settled'; transaction: string };

/** The topic under which a settled payment is told to whoever holds the payer's budget. */
export const settledTopic = 'payment.settled';

const pollMs = 25;

/**
 * Settles an answered payment: takes it, finds or writes down its transaction, sends it, and waits for the chain's word.
 * Safe to call from any number of processes and after any crash: one takes the payment, a transaction is written
 * before it is sent, and the chain takes a nonce once.
 */
export async function settlePayment(
  context: WriteContext,
  chain: Chain,
  payment: Payment,
): Promise<Settlement> {
  const deadline = addSeconds(context.clock.now(), limits.settlementMarginSeconds);
  const taken = await write(context, async (sql, now) => ({
    result: await beginSettling(sql, payment, addSeconds(now, limits.settlementMarginSeconds), now),
    audit: null,
  }));
  if (!taken) return waitForSettlement(context, payment, deadline);

  const transaction = await findOrRecordTransaction(context, chain, taken);
  if (transaction === undefined) return concludeWithoutTransaction(context, chain, taken);
  await chain.broadcast(transaction.raw);
  for (;;) {
    const outcome = await chain.outcomeOf(transaction.hash, authorizationOf(taken));
    if (outcome === 'succeeded') return recordSettled(context, taken, transaction.hash);
    if (outcome === 'reverted') return concludeReverted(context, chain, taken, transaction);
    if (context.clock.now() >= deadline) return { kind: 'pending' };
    await sleep(pollMs);
  }
}

/** Another request or a worker has it: its word is read from the payment's row. */
async function waitForSettlement(
  context: WriteContext,
  payment: Payment,
  deadline: Date,
): Promise<Settlement> {
  for (;;) {
    const current = await findPayment(context.db, payment);
    if (current?.state === 'settled') return { kind: 'settled', transaction: current.transaction ?? '' };
    if (current?.state === 'settlement_failed')
      return { kind: 'failed', reason: current.failure ?? 'settlement failed' };
    if (context.clock.now() >= deadline) return { kind: 'pending' };
    await sleep(pollMs);
  }
}

/** Nothing where the chain would refuse the transfer: then no gas is spent on finding out. */
async function findOrRecordTransaction(
  context: WriteContext,
  chain: Chain,
  payment: Payment,
): Promise<SettlementTransaction | undefined> {
  const sent = await findSentTransaction(context.db, payment);
  if (sent) return sent;
  const relayer = await findRelayerAddress(context.db, chain.network.id);
  if (!relayer) throw new Error(`no relayer for ${chain.network.id}`);
  if (!(await chain.canTransfer(exactPaymentOf(payment), relayer))) return undefined;
  const fees = await chain.fees();
  return write(context, async (sql, now) => ({
    result: await recordTransaction(sql, { box: context.box, chain, payment, fees, now }),
    audit: null,
  }));
}

/** The transfer doesn't go through any more. Perhaps because it has already: by a transaction that we, or anyone, sent. */
async function concludeWithoutTransaction(
  context: WriteContext,
  chain: Chain,
  payment: Payment,
): Promise<Settlement> {
  const authorization = authorizationOf(payment);
  const used = await chain.isNonceUsed(payment.payer, payment.nonce);
  const transaction = used ? await chain.findSettlement(authorization) : undefined;
  if (transaction) return recordSettled(context, payment, transaction);
  return recordFailed(context, payment, used ? 'invalid_transaction_state' : 'insufficient_funds');
}

async function concludeReverted(
  context: WriteContext,
  chain: Chain,
  payment: Payment,
  transaction: SettlementTransaction,
): Promise<Settlement> {
  await write(context, async (sql) => {
    await closeTransactions(sql, payment, { hash: transaction.hash, state: 'reverted' });
    return { result: undefined, audit: null };
  });
  return concludeWithoutTransaction(context, chain, payment);
}

async function recordSettled(
  context: WriteContext,
  payment: Payment,
  transaction: `0x${string}`,
): Promise<Settlement> {
  await write(context, async (sql, now) => {
    await closeTransactions(sql, payment, { hash: transaction, state: 'succeeded' });
    const changed = await markSettled(sql, payment, transaction, now);
    const { network, asset, payer, nonce, amount } = payment;
    const data = { network, asset, payer, pay_to: payment.payTo, amount: amount.toString(), transaction };
    return {
      result: undefined,
      audit: changed
        ? { action: 'payment.settled', resource: payment.id, scope: payment.environmentId, data }
        : null,
      outbox: changed
        ? [
            {
              topic: settledTopic,
              scope: payment.environmentId,
              payload: { network, asset, payer, nonce, transaction },
            },
          ]
        : [],
    };
  });
  return { kind: 'settled', transaction };
}

async function recordFailed(context: WriteContext, payment: Payment, reason: string): Promise<Settlement> {
  await write(context, async (sql, now) => {
    const changed = await markSettlementFailed(sql, payment, reason, now);
    const audit = {
      action: 'payment.settlement_failed',
      resource: payment.id,
      scope: payment.environmentId,
      data: { reason },
    };
    return { result: undefined, audit: changed ? audit : null };
  });
  return { kind: 'failed', reason };
}
