import { numberToHex } from 'viem';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Chain, createSettler } from '../src/x402/index.ts';
import { recordBatch } from '../src/x402/settlement/settle-batch.ts';
import { contextOf, openChain, price, relayer, report } from './crash/payment-parts.ts';
import { type RpcCall, type RpcProxy, startRpcProxy } from './helpers/rpc-proxy.ts';
import { answer, type Answered, type Ground, letPass, openGround, paymentOf } from './helpers/settlement.ts';
import type { Database } from '../src/db/index.ts';

let ground: Ground;
let db: Database;
let proxy: RpcProxy;
/** As the program sees it, and as it is. */
let chain: Chain;
let truth: Chain;
beforeAll(async () => {
  ground = await openGround();
  ({ db } = ground.database);
  truth = ground.chain;
  proxy = await startRpcProxy(ground.local.rpcUrl);
  chain = openChain(proxy.url);
});
afterAll(() => proxy.close());

/** One whose transaction is recorded and mined, and whose process is gone. */
async function newMinedScene(): Promise<Answered> {
  const scene = await answer(ground);
  const { recorded } = await recordBatch({ context: contextOf(db), chain: truth, report }, [scene.payment]);
  await truth.broadcast(recorded?.transaction.raw ?? '0x');
  await expect.poll(() => truth.balanceOf(scene.payee)).toBe(price);
  return scene;
}

const openSettler = () => createSettler({ context: contextOf(db), chain, report: () => undefined });

/** What a process finds that looks when the leases of those that are gone are over. */
async function resume(): Promise<void> {
  await letPass(db, 60);
  await openSettler().resume();
}

const stateOf = async (scene: Answered) => (await paymentOf(db, scene)).state;

async function expectSettledOnce(scene: Answered): Promise<void> {
  expect(await stateOf(scene)).toBe('settled');
  expect(await truth.balanceOf(scene.payee)).toBe(price);
  const query = "SELECT action FROM audit_events WHERE resource = $1 AND action LIKE 'payment.settle%'";
  expect(await db.query(query, [scene.payment.id])).toEqual([{ action: 'payment.settled' }]);
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
      await resume();
      expect(told).toBeGreaterThan(0);
      expect(await stateOf(scene)).toBe('settling');

      proxy.behave({});
      await resume();
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
    await resume();
    expect(await stateOf(scene)).toBe('settling');
    proxy.behave({});
    await resume();
    await expectSettledOnce(scene);
  });
});

const sends = (calls: readonly RpcCall[]) => calls.some(({ method }) => method === 'eth_sendRawTransaction');

describe('a payment is settled once, by whoever takes it up,', () => {
  it('when the RPC was down as it was to be settled', async () => {
    const scene = await answer(ground);
    proxy.behave({
      refuse(_calls, response) {
        response.writeHead(503).end();
        return true;
      },
    });
    expect(await openSettler().settle(scene.payment)).toEqual({ kind: 'pending' });
    expect(await stateOf(scene)).toBe('responded');
    proxy.behave({});
    await resume();
    await expectSettledOnce(scene);
  });

  it('when the connection broke before its transaction was taken', async () => {
    const scene = await answer(ground);
    proxy.behave({
      refuse(calls, response) {
        if (!sends(calls)) return false;
        response.destroy();
        return true;
      },
    });
    expect(await openSettler().settle(scene.payment)).toEqual({ kind: 'pending' });
    expect(await stateOf(scene)).toBe('settling');
    proxy.behave({});
    await resume();
    await expectSettledOnce(scene);
  });

  it('when the RPC took its transaction and gave no answer', async () => {
    const scene = await answer(ground);
    proxy.behave({ swallow: sends });
    expect(await openSettler().settle(scene.payment)).toEqual({ kind: 'pending' });
    expect(await truth.balanceOf(scene.payee)).toBe(price);
    proxy.behave({});
    await resume();
    await expectSettledOnce(scene);
  });

  it('when the RPC said that it had taken its transaction, and had not', async () => {
    const scene = await answer(ground);
    proxy.behave({
      refuse(calls, response) {
        if (!sends(calls)) return false;
        response.end(JSON.stringify(calls.map(({ id }) => ({ id, result: hash }))));
        return true;
      },
    });
    const settlement = openSettler().settle(scene.payment);
    await expect.poll(() => stateOf(scene)).toBe('settling');
    proxy.behave({});
    // Another process sends what the chain doesn't count; the one that waits sees it mined.
    await openSettler().resume();
    expect(await settlement).toMatchObject({ kind: 'settled' });
    await expectSettledOnce(scene);
  });
});
