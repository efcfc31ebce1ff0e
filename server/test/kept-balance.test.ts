import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fundAccount } from '../src/embedded/index.ts';
import { type Chain, createSettler, exactRail, networks, type Terms } from '../src/x402/index.ts';
import {
  claim,
  contextOf,
  fingerprint,
  newOrder,
  openChain,
  openLane,
  type Order,
  presenter,
  price,
  report,
  storeAnswer,
} from './crash/payment-parts.ts';
import { type RpcProxy, startRpcProxy } from './helpers/rpc-proxy.ts';
import { type Ground, openGround } from './helpers/settlement.ts';

let ground: Ground;
let proxy: RpcProxy;
/** As the process sees it that verifies payments, and as another does that settles them. */
let chain: Chain;
let elsewhere: Chain;
beforeAll(async () => {
  ground = await openGround();
  elsewhere = ground.chain;
  proxy = await startRpcProxy(ground.local.rpcUrl);
});
afterAll(() => proxy?.close());

const give = (order: { payer: { address: `0x${string}` } }, tokenAtomic: bigint) =>
  fundAccount(ground.local.rpcUrl, { address: order.payer.address, tokenAtomic });

/** What the gateway does with a payment before the upstream hears of the call: what came of it. */
async function verifyAndClaim({ sent, target }: Order, context = contextOf(ground.database.db)) {
  const terms: Terms = {
    network: networks.sandbox,
    amount: price,
    payTo: sent.authorization.to,
    maxTimeoutSeconds: 120,
  };
  const settler = createSettler({ context, chain, report });
  const rail = exactRail({ sent, terms, chain, settler });
  const balance = await rail.findFunds(context.clock.now());
  if (typeof balance === 'string' || balance === undefined) return balance;
  const hosted = false;
  const mode = 'after_success';
  const facts = rail.facts;
  return openLane(context).claim({ facts, presenter, fingerprint, target, mode, hosted, balance }, context);
}

/** Settles a claimed payment as another process does, of which the one that verifies hears nothing. */
async function settleElsewhere(claimed: Awaited<ReturnType<typeof verifyAndClaim>>): Promise<void> {
  if (typeof claimed !== 'object' || claimed.kind !== 'claimed') throw new Error('it was not claimed');
  const context = contextOf(ground.database.db);
  await storeAnswer(context, claimed.payment);
  const settler = createSettler({ context, chain: elsewhere, report });
  expect(await settler.settle(claimed.payment)).toMatchObject({ kind: 'settled' });
}

const refused = { kind: 'refused', reason: 'insufficient_funds' };

/** A payer with so much, whose balance the verifying process has just read for one payment and keeps for the block. */
async function newScene(cents: bigint) {
  chain = openChain(proxy.url);
  const first = await newOrder();
  await give(first, cents * price);
  return { first, second: await newOrder(first.payer), claimed: await verifyAndClaim(first) };
}

describe('a balance that is kept from earlier in the block', () => {
  it('buys nothing twice: what another process has settled since is subtracted', async () => {
    const { second, claimed } = await newScene(1n);
    await settleElsewhere(claimed);
    expect(await verifyAndClaim(second)).toEqual(refused);
  });

  it('buys nothing twice: what is claimed and not settled yet is subtracted', async () => {
    const { second } = await newScene(1n);
    expect(await verifyAndClaim(second)).toEqual(refused);
  });

  it('refuses nobody who has got more since', async () => {
    const { first, second } = await newScene(1n);
    await give(first, 2n * price);
    expect(await verifyAndClaim(second)).toMatchObject({ kind: 'claimed' });
  });

  it('refuses nobody who had nothing at all before', async () => {
    const { first, second, claimed } = await newScene(0n);
    expect(claimed).toBe('insufficient_funds');
    await give(first, price);
    expect(await verifyAndClaim(second)).toMatchObject({ kind: 'claimed' });
  });

  it('refuses nobody because a settlement that it has already lost is subtracted once more', async () => {
    // The first is mined, and its row doesn't say so yet: of two cents, one is left.
    const first = await newOrder();
    const [second, third] = [await newOrder(first.payer), await newOrder(first.payer)];
    const { id } = await claim(contextOf(ground.database.db), first);
    await give(first, price);
    chain = openChain(proxy.url);
    expect(await verifyAndClaim(second)).toEqual(refused);

    const query = `UPDATE payments SET state = 'settled', settled_at = now(), lease_until = NULL, transaction = $2 WHERE id = $1`;
    await ground.database.db.query(query, [id, `0x${'ab'.repeat(32)}`]);
    // Times are kept in whole milliseconds, and the same one counts as since.
    await sleep(5);
    expect(await verifyAndClaim(third)).toMatchObject({ kind: 'claimed' });
  });
});

it('the chain is asked for a payer once in a block, and with one request for all who ask at the same moment', async () => {
  const { first } = await newScene(100n);
  let requests = 0;
  let calls = 0;
  proxy.behave({
    refuse(asked) {
      requests += 1;
      calls += asked.length;
      return false;
    },
  });
  const orders = await Promise.all(Array.from({ length: 20 }, () => newOrder(first.payer)));
  const claims = await Promise.all(orders.map((order) => verifyAndClaim(order)));
  proxy.behave({});
  expect(claims).toMatchObject(orders.map(() => ({ kind: 'claimed' })));
  // One question for twenty nonces: no balance, and no look for code beside it.
  expect([requests, calls]).toEqual([1, 1]);
});
