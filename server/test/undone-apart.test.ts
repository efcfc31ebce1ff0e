import type { Hex } from 'viem';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../contracts/test/local-chain.ts';
import { newAccount } from '../contracts/test/signatures.ts';
import { fundAccount } from '../src/embedded/index.ts';
import { createSettler } from '../src/x402/index.ts';
import { createReorganisationWatch } from '../src/x402/settlement/reorganisations.ts';
import { contextOf, openChain, report } from './crash/payment-parts.ts';
import { type RpcProxy, startRpcProxy } from './helpers/rpc-proxy.ts';
import {
  actionsOf,
  answer,
  type Answered,
  forgetLast,
  groundForEachTest,
  paymentOf,
  sendOutside,
} from './helpers/settlement.ts';

const ground = groundForEachTest();
let proxy: RpcProxy;
beforeEach(async () => {
  proxy = await startRpcProxy(ground.local.rpcUrl);
});
afterEach(() => proxy.close());

async function settleOurselves(scene: Answered): Promise<Hex> {
  const settler = createSettler({ context: contextOf(ground.database.db), chain: ground.chain, report });
  const settled = await settler.settle(scene.payment);
  if (settled.kind !== 'settled') throw new Error(settled.kind);
  return settled.transaction as Hex;
}

async function settleByStranger(scene: Answered): Promise<Hex> {
  const stranger = newAccount();
  await fundAccount(ground.local.rpcUrl, { address: stranger.address, wei: 10n ** 18n });
  return sendOutside(ground, scene, stranger);
}

/** Tells of a transaction, whichever is asked for first, what was true before the chain forgot it: a block that isn't the chain's. */
async function lieOfTheFirst(transactions: readonly Hex[]): Promise<{ asked(): Hex | undefined }> {
  const client = connect(ground.local.rpcUrl);
  const receipts = new Map<unknown, unknown>();
  for (const hash of transactions)
    receipts.set(
      hash,
      await client.request({ method: 'eth_getTransactionReceipt', params: [hash] } as never),
    );
  let asked: Hex | undefined;
  proxy.behave({
    alter({ method, params: [hash] }, result) {
      if (method !== 'eth_getTransactionReceipt') return result;
      asked ??= hash as Hex;
      return hash === asked ? receipts.get(hash) : result;
    },
  });
  return { asked: () => asked };
}

describe('of two settlements that the chain has forgotten', () => {
  it.each([
    ['by transactions of ours', settleOurselves, 'settling'],
    ['by others’ transactions', settleByStranger, 'responded'],
  ])(
    'the one is undone though nothing believable is told of the other: %s',
    async (_whose, settle, undone) => {
      const { db } = ground.database;
      const scenes = [await answer(ground), await answer(ground)];
      await connect(ground.local.rpcUrl).mine({ blocks: 3 });
      const transactions: Hex[] = [];
      for (const scene of scenes) transactions.push(await settle(scene));
      const lie = await lieOfTheFirst(transactions);
      await forgetLast(ground, 3);

      const reported: unknown[] = [];
      const watch = createReorganisationWatch({
        context: contextOf(db),
        chain: openChain(proxy.url),
        report: (error) => reported.push(error),
      });
      await watch();
      const states = await Promise.all(scenes.map(async (scene) => (await paymentOf(db, scene)).state));
      expect(states).toEqual(transactions.map((hash) => (hash === lie.asked() ? 'settled' : undone)));
      expect(reported).toHaveLength(1);

      proxy.behave({});
      await watch();
      for (const scene of scenes)
        expect(await actionsOf(db, scene)).toEqual(['payment.settled', 'payment.settlement_undone']);
    },
  );
});
