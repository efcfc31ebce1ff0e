import type { Hex } from 'viem';
import { beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../contracts/test/local-chain.ts';
import type { Database } from '../../src/db/index.ts';
import { newAccount } from '../../contracts/test/signatures.ts';
import { fundAccount } from '../../src/embedded/index.ts';
import type { Chain } from '../../src/x402/index.ts';
import { openChain, price } from './payment-parts.ts';
import {
  actionsOf,
  answer,
  type Answered,
  forgetLast,
  groundForEachTest,
  paymentOf,
  resumeLater,
  sendOutside,
} from '../helpers/settlement.ts';

const ground = groundForEachTest();
let db: Database;
let chain: Chain;
beforeEach(() => {
  ({ chain } = ground);
  ({ db } = ground.database);
});

const resume = (seconds = 0, on = chain) => resumeLater({ ...ground, chain: on }, seconds);

/** A payment that a stranger has sent before we could. */
async function settleOutside(): Promise<Answered & { transaction: Hex }> {
  const scene = await answer(ground);
  const stranger = newAccount();
  const { rpcUrl } = ground.local;
  await fundAccount(rpcUrl, { address: stranger.address, wei: 10n ** 18n });
  await connect(rpcUrl).mine({ blocks: 3 });
  return { ...scene, transaction: await sendOutside(ground, scene, stranger) };
}

const watched = () => db.query('SELECT 1 FROM outside_settlements');

describe('a settlement by somebody else’s transaction', () => {
  it('that the chain forgets is noticed, and made good by a transaction of ours', async () => {
    const scene = await settleOutside();
    await forgetLast(ground, 2);
    expect(await chain.balanceOf(scene.payee)).toBe(0n);
    await resume();
    expect(await paymentOf(db, scene)).toMatchObject({ state: 'responded', transaction: null });
    await resume(60);
    const payment = await paymentOf(db, scene);
    expect(payment.state).toBe('settled');
    expect(payment.transaction).not.toBe(scene.transaction);
    expect(await chain.balanceOf(scene.payee)).toBe(price);
    expect(await actionsOf(db, scene)).toEqual([
      'payment.settled',
      'payment.settlement_undone',
      'payment.settled',
    ]);
    expect(await watched()).toEqual([]);
  });

  it('that is in another block now has only moved', async () => {
    const scene = await settleOutside();
    const client = connect(ground.local.rpcUrl);
    const raw = await client.request({
      method: 'eth_getRawTransactionByHash',
      params: [scene.transaction],
    } as never);
    await forgetLast(ground, 2);
    await chain.broadcast(raw);
    await expect.poll(() => chain.balanceOf(scene.payee)).toBe(price);
    await resume();
    await resume(60);
    expect(await actionsOf(db, scene)).toEqual(['payment.settled']);
    expect(await watched()).toHaveLength(1);
  });

  it('is looked at until it is as deep as the chain is watched, and no longer', async () => {
    const shallow = openChain(ground.local.rpcUrl, { reorgDepth: 3 });
    await settleOutside();
    const client = connect(ground.local.rpcUrl);
    await client.mine({ blocks: 2 });
    await resume(0, shallow);
    expect(await watched()).toHaveLength(1);
    await client.mine({ blocks: 1 });
    await resume(0, shallow);
    expect(await watched()).toEqual([]);
  });
});
