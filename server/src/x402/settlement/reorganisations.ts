import { reach } from '#points';
import { type BatchOutcome, writeBatch } from '../../db/index.ts';
import { judgeBatchReceipt } from '../chain/batch-call.ts';
import { authorizationOf, type Payment } from '../payments/payment.ts';
import type { Receipt } from '../chain/receipts.ts';
import { undoneEvents } from '../payments/payment-events.ts';
import type { BatchDeps } from './settle-batch.ts';
import {
  findAllItems,
  findWatchedBlocks,
  findMinedIn,
  keepMined,
  moveToBlock,
  reopenTransaction,
} from './reorganisations.sql.ts';
import {
  findOutsideIn,
  keepOutside,
  moveOutside,
  type OutsideSettlement,
  reopenOutside,
} from './outside.sql.ts';
import type { SettlementTransaction } from './transactions.sql.ts';

/** Blocks that are looked at in one round: two requests. */
const blocksMax = 200;

/**
 * Makes a watch over what was settled, by our transactions and by others'. Each of its rounds looks whether the blocks that these were
 * mined in are still the chain's, until they are as deep as the chain is watched; what the chain has forgotten goes on as if it had just been sent. A
 * round costs one call while the head stays the same.
 */
export function createReorganisationWatch(deps: BatchDeps): () => Promise<void> {
  let checkedHead: string | undefined;
  return async () => {
    const { context, chain } = deps;
    const blocks = await findWatchedBlocks(context.db, chain.network.id, blocksMax);
    if (blocks.length === 0) return;
    const head = await chain.head();
    if (head.hash === checkedHead) return;

    const places = await chain.findPlaces(blocks.map(({ number }) => number));
    const kept = blocks.filter(({ number, hash }) => places.hashes.get(number) === hash);
    // A block that is missing may be one that this node, of several behind one address, hasn't got yet; one that is gone has another in its place.
    const gone = blocks.filter(
      ({ number, hash }) =>
        places.hashes.get(number) !== hash && (places.hashes.has(number) || chain.forgetsBlocks),
    );
    if (kept.length > 0)
      await writeBatch(context, async (sql) => {
        await keepMined(sql, chain.network.id, kept, places.settled);
        await keepOutside(sql, chain.network.id, kept, places.settled);
        return { result: undefined, audits: [] };
      });
    if (gone.length > 0) await reach('forgotten');
    // One whose receipt can't be believed is looked at again, and keeps none of the others.
    for (const block of gone) {
      for (const transaction of await findMinedIn(context.db, chain.network.id, block)) {
        await followTransaction(deps, transaction).catch(deps.report);
      }
      for (const outside of await findOutsideIn(context.db, chain.network.id, block)) {
        await followOutside(deps, outside).catch(deps.report);
      }
    }
    checkedHead = gone.length === 0 && blocks.length < blocksMax ? head.hash : undefined;
  };
}

/** Most transactions are mined again at once, with the same outcome; then only their place has changed. */
async function followTransaction(deps: BatchDeps, transaction: SettlementTransaction): Promise<void> {
  const { context, chain } = deps;
  const items = await findAllItems(context.db, transaction);
  const receipt = await chain.findReceipt(transaction.hashes);
  if (receipt && isSameOutcome(receipt, transaction, items, deps)) {
    await writeBatch(context, async (sql) => {
      await moveToBlock(sql, transaction, receipt.block);
      return { result: undefined, audits: [] };
    });
    return;
  }
  await writeBatch(context, async (sql) => {
    const reopened = await reopenTransaction(sql, transaction);
    await reach('undoing');
    return undone(items.filter(({ id, state }) => state === 'settled' && reopened.has(id)));
  });
  await reach('undone');
}

/** Nobody has to send another's transaction again: where it doesn't carry out the transfer any more, the payment is ours to settle. */
async function followOutside(deps: BatchDeps, outside: OutsideSettlement): Promise<void> {
  const { context, chain } = deps;
  const { payment, transaction } = outside;
  const receipt = await chain.findReceipt([transaction]);
  const [verdict] = receipt
    ? judgeBatchReceipt(receipt.logs, [authorizationOf(payment)], chain.network.asset.address)
    : [];
  await writeBatch(context, async (sql) => {
    if (receipt && verdict === 'settled') {
      await moveOutside(sql, outside, receipt.block);
      return { result: undefined, audits: [] };
    }
    return undone((await reopenOutside(sql, outside)) ? [payment] : []);
  });
}

function isSameOutcome(
  receipt: Receipt,
  transaction: SettlementTransaction,
  items: readonly Payment[],
  { chain }: BatchDeps,
): boolean {
  const verdicts = judgeBatchReceipt(receipt.logs, items.map(authorizationOf), chain.network.asset.address);
  return items.every((payment, index) => {
    const isOurs =
      payment.state === 'settled' && transaction.hashes.some((hash) => hash === payment.transaction);
    // One that failed and is settled after all has to be told, and so has one that isn't any more.
    return isOurs === (verdicts[index] === 'settled');
  });
}

/** What has to be told of these, whose settlements the chain has forgotten. */
function undone(payments: readonly Payment[]): BatchOutcome<undefined> {
  const told = payments.map(undoneEvents);
  return {
    result: undefined,
    audits: told.map(({ audit }) => audit),
    outbox: told.map(({ outbox }) => outbox),
  };
}
