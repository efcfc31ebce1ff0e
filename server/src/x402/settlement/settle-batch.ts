import { reach } from '#points';
import { writeBatch } from '../../db/index.ts';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { partition } from '../../kernel/partition.ts';
import type { Address } from 'viem';
import { batchGas, encodeBatch } from '../chain/batch-call.ts';
import type { Fees } from '../chain/fees.ts';
import { ChainUnavailableError } from '../chain/json-rpc.ts';
import { transferCall } from '../chain/token-calls.ts';
import { exactPaymentOf, type Payment } from '../payments/payment.ts';
import { batchContext, conclude, type ConcludeDeps, concludeUnsent, type Reporting } from './conclude.ts';
import { type Conclusion, takeForSettling } from './conclusions.sql.ts';
import { replaceTransaction, signWithNextNonce } from './relayers.ts';
import { insertTransaction, type SettlementTransaction } from './transactions.sql.ts';
import { endUnstored, storeAnswers, type Unstored } from './unstored.ts';

/** A transaction that was left lying for this long is signed again with higher fees: some blocks on any chain of ours. */
const stuckSeconds = 30;
/** Fees rise by a quarter each time; this many versions are three times as dear as the first. */
const versionsMax = 6;
/** For so long after a payment of a batch has failed, all are tried before they are sent. */
const tryingMs = 60_000;
/** So long answers that aren't stored yet wait for the RPC to say what gas costs: a round trip to most. */
const feesMsMax = 100;
/** And for rows that other processes have, which need them for milliseconds: less than an attempt's lease leaves for storing. */
const lockMsMax = 2_000;
/** How long a dearer version waits for its block before it is looked at again. */
const versionPatienceMs = 250;

export interface BatchDeps extends ConcludeDeps, Reporting {
  /** Relayers that were out of gas a while ago, and until when (`performance.now()`) others sign before them. */
  resting?: Map<Address, number>;
  /** Until when (`performance.now()`) every payment is tried before it is sent, as one of a batch has failed. */
  tryingUntilMs?: number;
}

export interface RecordedBatch {
  transaction: SettlementTransaction;
  payments: Payment[];
}

/** How payments come into a batch. */
export interface BatchOrigin {
  /** Whether the chain has said of all of them, a moment ago, that they are good. */
  areGood?: boolean;
  /** Answers of theirs that aren't stored yet: they are, before or with the transaction. */
  unstored?: Unstored;
}

/** What became of payments that were to go into a transaction. */
interface BatchRecord {
  recorded: RecordedBatch | undefined;
  told: Conclusion[];
  /** To be tried again soon. */
  later: Payment[];
  /** Whose answers weren't stored, as another attempt has them. */
  takenOver: Payment[];
}

/**
 * Writes down one transaction that settles these payments, each of which may fail alone. The chain is asked first which of
 * them would go through, unless it has just said so, so that no gas is spent on those that wouldn't; those are concluded here. Nothing is
 * recorded where none is left, or where other processes have them all.
 */
export async function recordBatch(
  deps: BatchDeps,
  payments: readonly Payment[],
  { areGood = false, unstored = new Map() }: BatchOrigin = {},
): Promise<BatchRecord> {
  const asked = areGood && mayGoUntried(deps) ? deps.chain.fees() : undefined;
  if (asked && (unstored.size === 0 || (await comesSoon(asked)))) {
    const fees = await asked;
    await reach('examined');
    return { told: [], later: [], ...(await recordGood(deps, payments, { fees, unstored })) };
  }
  // What the chain is asked may take long, or be told of them: what they bought is kept before.
  const [waiting, stored] = partition(payments, ({ id }) => unstored.has(id));
  const kept = waiting.length === 0 ? [] : await storeAnswers(deps, waiting, unstored);
  const takenOver = waiting.filter(({ id }) => !kept.some((one) => one.id === id));
  if (asked) {
    const { recorded } = await recordGood(deps, [...kept, ...stored], { fees: await asked });
    return { recorded, told: [], later: [], takenOver };
  }
  const { good, told, later, fees } = await examineAll(deps, [...kept, ...stored]);
  if (good.length === 0) return { recorded: undefined, told, later, takenOver };
  return { ...(await recordGood(deps, good, { fees })), told, later, takenOver };
}

/** Whether the fees are there within the time for which an answer may wait for them in memory. */
async function comesSoon(fees: Promise<Fees>): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(resolve, feesMsMax, false);
  return Promise.race([fees.then(() => true), promise]).finally(() => clearTimeout(timer));
}

/** Writes the transaction down, with the answers that aren't stored yet. */
async function recordGood(
  deps: BatchDeps,
  payments: readonly Payment[],
  { fees, unstored: answers = new Map() }: Pick<BatchOrigin, 'unstored'> & { fees: Fees },
): Promise<Pick<BatchRecord, 'recorded' | 'takenOver'>> {
  const { context, chain } = deps;
  const [waiting, stored] = partition(payments, ({ id }) => answers.has(id));
  const written = await writeBatch<Pick<BatchRecord, 'recorded' | 'takenOver'>>(
    batchContext(deps),
    async (sql, now) => {
      // Another process may stand still with the relayer, or with a payment: that keeps no answer from being stored, and no connection.
      sql.send(`SET LOCAL lock_timeout = ${lockMsMax}`);
      const [ended, others] = await Promise.all([
        endUnstored(sql, waiting, { answers, state: 'settling', now }),
        stored.length === 0 ? [] : takeForSettling(sql, stored),
      ]);
      const taken = [...ended, ...others];
      const takenOver = waiting.filter(({ id }) => !ended.some((one) => one.id === id));
      if (taken.length === 0) return { result: { recorded: undefined, takenOver }, audits: [] };
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
      await insertTransaction(sql, transaction, taken, limits.settlementMarginSeconds);
      await reach('recording');
      return { result: { recorded: { transaction, payments: taken }, takenOver }, audits: [] };
    },
  );
  await reach('recorded');
  return written;
}

interface Examined {
  good: Payment[];
  told: Conclusion[];
  later: Payment[];
}

/** Which payments would go through now; the others are looked at once more, in a block that no node's answer is older than. */
async function examineAll(deps: BatchDeps, payments: readonly Payment[]): Promise<Examined & { fees: Fees }> {
  const { verdicts, fees } = await deps.chain.examine(payments.map(exactPaymentOf));
  await reach('examined');
  // A payer with code is asked by the token, through Multicall3 with all the gas that there is: it could make the whole batch fail.
  const good = payments.filter((_payment, index) => verdicts[index] === 'passes');
  const others = payments.filter((_payment, index) => verdicts[index] !== 'passes');
  const looked = await lookAgain(deps, others, good);
  return { ...looked, good: [...good, ...looked.good], fees };
}

/**
 * What was found good a moment ago isn't tried once more, where the batch contract bounds what one that fails after all can cost. After the
 * first that does, all are tried for a while: nobody burns more gas by it than that of the batches which are on their way by then, once a minute.
 */
export function mayGoUntried({ chain, tryingUntilMs = 0 }: BatchDeps): boolean {
  return chain.boundsGas && performance.now() >= tryingUntilMs;
}

/** What doesn't go through keeps none of the others, also where no node can say for sure that it doesn't. */
async function lookAgain(
  deps: BatchDeps,
  payments: readonly Payment[],
  behind: readonly Payment[],
): Promise<Examined> {
  const { context, chain, report } = deps;
  try {
    const { told, passing, early } = await concludeUnsent(deps, payments, behind);
    // A local chain's next block is made of what is sent, and has the present time.
    const now = BigInt(unixSeconds(context.clock.now()));
    const isDue = ({ validAfter }: Payment) => chain.forgetsBlocks && validAfter < now;
    return {
      good: [...passing, ...early.filter(isDue)],
      told,
      later: early.filter((payment) => !isDue(payment)),
    };
  } catch (error) {
    if (!(error instanceof ChainUnavailableError)) throw error;
    report(error);
    return { good: [], told: [], later: [...payments] };
  }
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
    if (receipt) return noteVain(deps, await conclude(deps, transaction, { receipt, payments: known }));
    const now = context.clock.now();
    if (now >= stuckAt) {
      const next = await hasten(deps, transaction);
      if (Array.isArray(next)) return noteVain(deps, next);
      transaction = next;
    }
    if (now >= deadline) return undefined;
  }
}

/** Whatever a batch of ours hasn't settled itself was sent in vain, also where somebody else has. */
function noteVain(deps: BatchDeps, conclusions: Conclusion[]): Conclusion[] {
  if (conclusions.some((one) => one.state !== 'settled' || one.isWatchedByItself))
    deps.tryingUntilMs = performance.now() + tryingMs;
  return conclusions;
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
    const deep = await chain.deepTransactionCount(transaction.relayer);
    const receipt = await chain.findReceipt(transaction.hashes);
    if (receipt || deep.count > transaction.relayerNonce)
      return conclude(deps, transaction, { receipt, usedBy: deep.block });
  }
  if (counted !== transaction.relayerNonce || transaction.hashes.length >= versionsMax) {
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
