import { type Address, numberToHex } from 'viem';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LocalChain, startLocalChain } from '../contracts/test/local-chain.ts';
import { fundAccount, plantBatchContract, plantTestToken } from '../src/embedded/index.ts';
import {
  type Chain,
  createSettler,
  ensureRelayer,
  findClaim,
  exactFacts,
  networks,
  type Payment,
} from '../src/x402/index.ts';
import { recordBatch } from '../src/x402/settlement/settle-batch.ts';
import {
  claim,
  contextOf,
  newOrder,
  openChain,
  price,
  relayer,
  relayerKey,
  report,
  storeAnswer,
} from './crash/payment-parts.ts';
import { openTestDatabase, type TestDatabase } from './helpers/database.ts';
import { type RpcCall, type RpcProxy, startRpcProxy } from './helpers/rpc-proxy.ts';

let database: TestDatabase;
let local: LocalChain;
let proxy: RpcProxy;
/** As the program sees it, and as it is. */
let chain: Chain;
let truth: Chain;
beforeAll(async () => {
  [database, local] = await Promise.all([openTestDatabase(), startLocalChain()]);
  proxy = await startRpcProxy(local.rpcUrl);
  chain = openChain(proxy.url);
  truth = openChain(local.rpcUrl);
  await plantTestToken(local.rpcUrl, networks.sandbox.asset.address);
  await plantBatchContract(local.rpcUrl);
  await fundAccount(local.rpcUrl, { address: relayer, wei: 10n ** 20n });
  await ensureRelayer(contextOf(database.db), truth, relayerKey);
});
afterAll(async () => {
  proxy.close();
  await local.stop();
});

interface Scene {
  payment: Payment;
  payee: Address;
}

/** A payment whose answer is stored, and whose payer has the money. */
async function newScene(): Promise<Scene> {
  const order = await newOrder();
  await fundAccount(local.rpcUrl, { address: order.payer.address, tokenAtomic: price });
  const context = contextOf(database.db);
  const payment = await claim(context, order);
  await storeAnswer(context, payment);
  return { payment, payee: order.payee };
}

/** One whose transaction is recorded and mined, and whose process is gone. */
async function newMinedScene(): Promise<Scene> {
  const scene = await newScene();
  const { recorded } = await recordBatch({ context: contextOf(database.db), chain: truth, report }, [
    scene.payment,
  ]);
  await truth.broadcast(recorded?.transaction.raw ?? '0x');
  await expect.poll(() => truth.balanceOf(scene.payee)).toBe(price);
  return scene;
}

const settlerAt = (secondsAhead = 0) =>
  createSettler({ context: contextOf(database.db, secondsAhead), chain, report: () => undefined });

async function stateOf({ payment }: Scene): Promise<string | undefined> {
  const key = exactFacts({
    network: payment.network,
    asset: payment.asset as Address,
    authorization: {
      from: payment.payer as Address,
      to: payment.payTo as Address,
      value: payment.amount,
      validAfter: payment.validAfter,
      validBefore: payment.validBefore,
      nonce: payment.nonce as Address,
    },
    signature: payment.signature as Address,
  });
  return (await findClaim(database.db, key))?.payment.state;
}

async function expectSettledOnce(scene: Scene): Promise<void> {
  expect(await stateOf(scene)).toBe('settled');
  expect(await truth.balanceOf(scene.payee)).toBe(price);
  const query = "SELECT action FROM audit_events WHERE resource = $1 AND action LIKE 'payment.settle%'";
  expect(await database.db.query(query, [scene.payment.id])).toEqual([{ action: 'payment.settled' }]);
}

interface RawReceipt {
  transactionHash: string;
  blockHash: string;
  blockNumber: string;
  status: string;
  logs: Record<string, unknown>[];
}

const hash = `0x${'ab'.repeat(32)}`;
const lies: [string, (receipt: RawReceipt) => RawReceipt | null][] = [
  ['another transaction', (receipt) => ({ ...receipt, transactionHash: hash })],
  [
    'another block',
    (receipt) => ({
      ...receipt,
      blockHash: hash,
      logs: receipt.logs.map((log) => ({ ...log, blockHash: hash })),
    }),
  ],
  ['a block that is not there yet', (receipt) => ({ ...receipt, blockNumber: numberToHex(2n ** 40n) })],
  [
    "another transaction's logs",
    (receipt) => ({ ...receipt, logs: receipt.logs.map((log) => ({ ...log, transactionHash: hash })) }),
  ],
  ['a success without our logs', (receipt) => ({ ...receipt, logs: [] })],
  ['a failure without logs', (receipt) => ({ ...receipt, status: '0x0', logs: [] })],
  [
    'the logs of another contract',
    (receipt) => ({ ...receipt, logs: receipt.logs.map((log) => ({ ...log, address: relayer })) }),
  ],
  ['nothing', () => null],
];

describe('a payment that was settled stays due', () => {
  it.each(lies)(
    'while its receipt speaks of %s, and is settled when the truth comes out',
    async (_what, lie) => {
      const scene = await newMinedScene();
      let told = 0;
      proxy.behave({
        alter(call, result) {
          if (call.method !== 'eth_getTransactionReceipt' || result === null) return result;
          told += 1;
          return lie(result as RawReceipt);
        },
      });
      await settlerAt(60).resume();
      expect(told).toBeGreaterThan(0);
      expect(await stateOf(scene)).toBe('settling');

      proxy.behave({});
      await settlerAt(120).resume();
      await expectSettledOnce(scene);
    },
  );

  it('while its RPC knows no receipt and no log, though the nonce is used', async () => {
    const scene = await newMinedScene();
    proxy.behave({
      alter(call, result) {
        if (call.method === 'eth_getLogs') return [];
        return call.method === 'eth_getTransactionReceipt' ? null : result;
      },
    });
    await settlerAt(60).resume();
    expect(await stateOf(scene)).toBe('settling');
    proxy.behave({});
    await settlerAt(120).resume();
    await expectSettledOnce(scene);
  });
});

const sends = (calls: readonly RpcCall[]) => calls.some(({ method }) => method === 'eth_sendRawTransaction');

describe('a payment is settled once, by whoever takes it up,', () => {
  it('when the RPC was down as it was to be settled', async () => {
    const scene = await newScene();
    proxy.behave({
      refuse(_calls, response) {
        response.writeHead(503).end();
        return true;
      },
    });
    expect(await settlerAt().settle(scene.payment)).toEqual({ kind: 'pending' });
    expect(await stateOf(scene)).toBe('responded');
    proxy.behave({});
    await settlerAt(60).resume();
    await expectSettledOnce(scene);
  });

  it('when the connection broke before its transaction was taken', async () => {
    const scene = await newScene();
    proxy.behave({
      refuse(calls, response) {
        if (!sends(calls)) return false;
        response.destroy();
        return true;
      },
    });
    expect(await settlerAt().settle(scene.payment)).toEqual({ kind: 'pending' });
    expect(await stateOf(scene)).toBe('settling');
    proxy.behave({});
    await settlerAt(60).resume();
    await expectSettledOnce(scene);
  });

  it('when the RPC took its transaction and gave no answer', async () => {
    const scene = await newScene();
    proxy.behave({ swallow: sends });
    expect(await settlerAt().settle(scene.payment)).toEqual({ kind: 'pending' });
    expect(await truth.balanceOf(scene.payee)).toBe(price);
    proxy.behave({});
    await settlerAt(60).resume();
    await expectSettledOnce(scene);
  });

  it('when the RPC said that it had taken its transaction, and had not', async () => {
    const scene = await newScene();
    proxy.behave({
      refuse(calls, response) {
        if (!sends(calls)) return false;
        response.end(JSON.stringify(calls.map(({ id }) => ({ id, result: hash }))));
        return true;
      },
    });
    const settlement = settlerAt().settle(scene.payment);
    await expect.poll(() => stateOf(scene)).toBe('settling');
    proxy.behave({});
    // Another process sends what the chain doesn't count; the one that waits sees it mined.
    await settlerAt().resume();
    expect(await settlement).toMatchObject({ kind: 'settled' });
    await expectSettledOnce(scene);
  });
});
