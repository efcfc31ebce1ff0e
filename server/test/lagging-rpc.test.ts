import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../src/db/index.ts';
import { fundAccount } from '../src/embedded/index.ts';
import { unixSeconds } from '../src/kernel/clock.ts';
import { type Chain, createChain, createSettler, networks, type Payment } from '../src/x402/index.ts';
import { recordBatch } from '../src/x402/settlement/settle-batch.ts';
import {
  claim,
  contextOf,
  newOrder,
  openChain,
  openLane,
  price,
  report,
  storeAnswer,
} from './crash/payment-parts.ts';
import { type Lag, type LaggingRpc, startLaggingRpc } from './helpers/lagging-rpc.ts';
import {
  actionsOf,
  answer,
  type Answered,
  type Ground,
  letPass,
  openGround,
  paymentOf,
} from './helpers/settlement.ts';

let ground: Ground;
let db: Database;
let rpc: LaggingRpc;
let truth: Chain;
beforeAll(async () => {
  ground = await openGround();
  ({ db } = ground.database);
  truth = ground.chain;
  rpc = await startLaggingRpc(ground.local.rpcUrl);
});
afterAll(() => rpc.close());

/** One whose transaction is recorded and mined, and whose process is gone; and the block before that. */
async function newMinedScene(): Promise<{ scene: Answered; before: bigint }> {
  const scene = await answer(ground);
  const { recorded } = await recordBatch({ context: contextOf(db), chain: truth, report }, [scene.payment]);
  const before = (await truth.head()).number;
  await truth.broadcast(recorded?.transaction.raw ?? '0x');
  await expect.poll(() => truth.balanceOf(scene.payee)).toBe(price);
  return { scene, before };
}

/** What a process finds that looks when the leases of those that are gone are over. */
async function resume(chain: Chain): Promise<void> {
  await letPass(db, 60);
  await createSettler({ context: contextOf(db), chain, report: () => undefined }).resume();
}

const stateOf = async (scene: Answered) => (await paymentOf(db, scene)).state;

/** A round takes up so much, and a chain is asked once more where its answer came late. */
async function resumeUntilSettled(chain: Chain, scene: Answered): Promise<void> {
  const settle = async () => {
    await resume(chain);
    return stateOf(scene);
  };
  await expect.poll(settle, { timeout: 20_000 }).toBe('settled');
}

async function suspensionOf({ payment }: Answered): Promise<Date | null> {
  const query = 'SELECT suspended_until FROM payers WHERE payer = $1';
  const [row] = await db.query<{ suspendedUntil: Date | null }>(query, [payment.payer]);
  return row?.suspendedUntil ?? null;
}

async function expectSettledOnce(scene: Answered): Promise<void> {
  expect(await stateOf(scene)).toBe('settled');
  expect(await truth.balanceOf(scene.payee)).toBe(price);
  expect((await actionsOf(db, scene)).filter((action) => action.startsWith('payment.settle'))).toEqual([
    'payment.settled',
  ]);
  expect(await suspensionOf(scene)).toBeNull();
  const query = 'SELECT relayer_nonce FROM settlement_items WHERE payment_id = $1';
  expect(await db.query(query, [scene.payment.id])).toHaveLength(1);
}

const has = (methods: readonly string[], method: string) => methods.includes(method);
const views: [string, Pick<Lag, 'isAhead' | 'isCareless'>][] = [
  ["of the relayer's nonce", { isAhead: (methods) => has(methods, 'eth_getTransactionCount') }],
  [
    "of the relayer's nonce and of the head",
    {
      isAhead: (methods) =>
        has(methods, 'eth_getTransactionCount') || methods.join() === 'eth_getBlockByNumber',
    },
  ],
  [
    "of the relayer's nonce and of the head, and the node behind takes any block for its latest",
    {
      isCareless: true,
      isAhead: (methods) =>
        has(methods, 'eth_getTransactionCount') || methods.join() === 'eth_getBlockByNumber',
    },
  ],
  [
    "of the relayer's nonce and of what would go through",
    {
      isAhead: (methods) =>
        has(methods, 'eth_getTransactionCount') || (methods.length > 1 && methods[0] === 'eth_call'),
    },
  ],
];

describe('a payment that was settled is sent no more and stays due', () => {
  it.each(views)('while the node that is a block ahead is only asked %s', async (_what, view) => {
    const { scene, before } = await newMinedScene();
    const chain = openChain(rpc.url);
    rpc.lag({ block: before, ...view });
    await resume(chain);
    await resume(chain);
    expect(await stateOf(scene)).toBe('settling');

    rpc.lag(undefined);
    await resumeUntilSettled(chain, scene);
    await expectSettledOnce(scene);
  });
});

describe('a payer whose money came in the last block', () => {
  it('is not blamed by a node that has not got that block', async () => {
    const scene = await answer(ground, 0n);
    const before = (await truth.head()).number;
    await fundAccount(ground.local.rpcUrl, { address: scene.payer.address, tokenAtomic: price });
    const chain = openChain(rpc.url);
    await chain.payerState(scene.payer.address, scene.sent.authorization.nonce);
    rpc.lag({ block: before, isAhead: () => false });
    await resume(chain);
    expect(await stateOf(scene)).toBe('responded');
    rpc.lag(undefined);
    await resumeUntilSettled(chain, scene);
    await expectSettledOnce(scene);
  });
});

/** A provider of several nodes, unlike a local chain. */
const openPublicChain = () =>
  createChain({ network: networks.sandbox, rpcUrl: rpc.url, finality: 'finalized', reorgDepth: 64 });

describe('a payer whose money another process has seen in the last block', () => {
  it.each(['a new payment', 'one that was tried before'])(
    'is not blamed by one whose node has not got that block: %s',
    async (which) => {
      const context = contextOf(db);
      const order = await newOrder();
      const retried = which === 'a new payment' ? undefined : await claim(context, order);
      if (retried) await openLane(context).end(retried, { kind: 'failed', failure: 'reset' }, context);
      const before = (await truth.head()).number;
      await fundAccount(ground.local.rpcUrl, { address: order.payer.address, tokenAtomic: price });
      const { balance, block } = await truth.payerState(order.payer.address, order.sent.authorization.nonce);
      const known = { atomic: balance, readAt: new Date(), block };
      const payment = retried
        ? await openLane(context).retry(retried, known, context)
        : await claim(context, order, known);
      await storeAnswer(context, payment as Payment);
      const scene = { ...order, payment: payment as Payment };

      rpc.lag({ block: before, isAhead: () => false });
      await resume(openPublicChain());
      expect(await stateOf(scene)).toBe('responded');
      rpc.lag(undefined);
      await resumeUntilSettled(openPublicChain(), scene);
      await expectSettledOnce(scene);
    },
  );
});

describe('a payment that was let in by a block that no chain has', () => {
  it('is held until it has run out, and no longer', async () => {
    const context = contextOf(db);
    const known = { atomic: price, readAt: new Date(), block: 10n ** 15n };
    const now = BigInt(unixSeconds(new Date()));
    const states: string[] = [];
    for (const validBefore of [now + 3_600n, now - 1n]) {
      const order = await newOrder(undefined, { validBefore });
      const payment = await claim(context, order, known);
      await storeAnswer(context, payment);
      await recordBatch({ context, chain: openPublicChain(), report: () => undefined }, [payment]);
      states.push(await stateOf({ ...order, payment }));
    }
    expect(states).toEqual(['responded', 'settlement_failed']);
  });
});

describe('a settlement that was told', () => {
  it('is not undone because a node has not got its block yet', async () => {
    const { scene, before } = await newMinedScene();
    await resume(truth);
    expect(await stateOf(scene)).toBe('settled');

    const chain = openPublicChain();
    let heads = 0;
    rpc.lag({
      block: before,
      // The blocks of what was settled before are looked for in the same request.
      isAhead: (methods) => methods.every((method) => method === 'eth_getBlockByNumber') && ++heads <= 2,
    });
    await resume(chain);
    rpc.lag(undefined);
    expect(heads, 'its block was looked for').toBeGreaterThan(2);
    await expectSettledOnce(scene);
  });
});
