import { createWalletClient, http } from 'viem';
import { beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../contracts/test/local-chain.ts';
import { newAccount } from '../contracts/test/signatures.ts';
import type { WriteContext } from '../src/db/index.ts';
import { fundAccount, multicall3Address } from '../src/embedded/index.ts';
import {
  createSettler,
  encodeBatch,
  exactFacts,
  networks,
  type PaymentLane,
  transferTypedData,
} from '../src/x402/index.ts';
import { transferCall } from '../src/x402/chain/token-calls.ts';
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
  storedAnswer,
} from './crash/payment-parts.ts';
import { startRpcProxy } from './helpers/rpc-proxy.ts';
import { answer, type Ground, letPass, openGround, paymentOf, type Scene } from './helpers/settlement.ts';

let ground: Ground;
let context: WriteContext;
let lane: PaymentLane;
/** As many as one round takes up. */
const takenMax = 200;
beforeAll(async () => {
  ground = await openGround();
  context = contextOf(ground.database.db);
  lane = openLane(context);
});

const stateOf = async (order: Order) => (await paymentOf(ground.database.db, order)).state;

describe('what processes have left behind', () => {
  it('is settled on a chain that is there, however much waits for one that is not', async () => {
    // More than one round takes up, and left behind earlier.
    for (let index = 0; index < 201; index += 1) {
      const order = await newOrder();
      const elsewhere = { ...order, sent: { ...order.sent, network: 'eip155:8453' } };
      await storeAnswer(context, await claim(context, elsewhere));
    }
    await letPass(context.db, 60);
    const order = await answer(ground);
    await letPass(context.db, 60);

    await createSettler({ context, chain: ground.chain, report }).resume();
    expect(await stateOf(order)).toBe('settled');
  }, 60_000);

  it('has its turn behind any number of which the chain gives no clear word', async () => {
    const payer = newAccount();
    await fundAccount(ground.local.rpcUrl, { address: payer.address, tokenAtomic: 1_000n * price });
    const unclear = await Promise.all(Array.from({ length: takenMax + 5 }, () => answerOf(payer)));
    await sendAll(unclear);
    await letPass(context.db, 60);
    const order = await answer(ground);
    await letPass(context.db, 60);

    const proxy = await startRpcProxy(ground.local.rpcUrl);
    // Used, it says, and for what it has forgotten.
    proxy.behave({ alter: ({ method }, result) => (method === 'eth_getLogs' ? [] : result) });
    const settler = createSettler({ context, chain: openChain(proxy.url), report });
    for (let round = 0; round < 2; round += 1) await settler.resume();
    proxy.close();
    expect(await stateOf(order)).toBe('settled');
    expect(new Set(await Promise.all(unclear.map(stateOf)))).toEqual(new Set(['responded']));
  }, 60_000);

  it('is reopened, and swept, while the chain is away', async () => {
    const order = await newOrder();
    await claim(context, order);
    await letPass(context.db, 120);
    const old = await newOrder();
    const dayAgo = contextOf(context.db, -25 * 60 * 60);
    const stored = await claim(dayAgo, old);
    await storeAnswer(dayAgo, stored);

    const away = openChain('http://127.0.0.1:9');
    const settler = createSettler({ context, chain: away, report: () => undefined });
    await expect(settler.resume()).rejects.toThrow('the RPC gave no answer');
    expect(await stateOf(order)).toBe('open');
    const query = 'SELECT sealed FROM stored_responses WHERE payment_id = $1';
    expect(await context.db.query(query, [stored.id])).toEqual([{ sealed: null }]);
  });
});

/** An answered payment of one who makes many. */
async function answerOf(payer: ReturnType<typeof newAccount>): Promise<Scene> {
  const order = await newOrder();
  const authorization = { ...order.sent.authorization, from: payer.address };
  const signature = await payer.signTypedData(transferTypedData(networks.sandbox, authorization));
  const sent = { ...order.sent, authorization, signature };
  const claimed = await lane.claim(
    {
      facts: exactFacts(sent),
      presenter,
      fingerprint,
      target: order.target,
      mode: 'after_success',
      hosted: false,
      balance: { atomic: 10n ** 12n, readAt: new Date() },
    },
    context,
  );
  if (claimed.kind !== 'claimed') throw new Error(claimed.kind);
  await lane.end(claimed.payment, { kind: 'responded', response: storedAnswer }, context);
  return { ...order, sent, payer };
}

/** Sends them all to the chain, as a stranger may. */
async function sendAll(scenes: readonly Scene[]): Promise<void> {
  const stranger = newAccount();
  await fundAccount(ground.local.rpcUrl, { address: stranger.address, wei: 10n ** 20n });
  const wallet = createWalletClient({ account: stranger, transport: http(ground.local.rpcUrl) });
  for (let start = 0; start < scenes.length; start += 100) {
    const calls = scenes
      .slice(start, start + 100)
      .map(({ sent }) => ({ target: sent.asset, callData: transferCall(sent) }));
    const hash = await wallet.sendTransaction({
      chain: null,
      to: multicall3Address,
      data: encodeBatch(calls),
      gas: 12_000_000n,
    });
    await connect(ground.local.rpcUrl).waitForTransactionReceipt({ hash });
  }
}
