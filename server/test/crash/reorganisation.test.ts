import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { createWalletClient, http } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../contracts/test/local-chain.ts';
import type { Database } from '../../src/db/index.ts';
import { fundAccount } from '../../src/embedded/index.ts';
import { type Chain, createSettler } from '../../src/x402/index.ts';
import { resendMissing } from '../../src/x402/settlement/relayers.ts';
import { contextOf, openChain, price, relayer, relayerKey, report } from './payment-parts.ts';
import {
  actionsOf,
  answer,
  forgetLast,
  groundForEachTest,
  paymentOf,
  resumeLater,
  type Scene,
} from '../helpers/settlement.ts';

const worker = new URL('worker.fixture.ts', import.meta.url).pathname;

const ground = groundForEachTest();
let db: Database;
let chain: Chain;
beforeEach(() => {
  ({ chain } = ground);
  ({ db } = ground.database);
});

const resume = (seconds = 0, on = chain) => resumeLater({ ...ground, chain: on }, seconds);

/** A payment that was settled, and told. Blocks before it make room for a reorganisation. */
async function settleOne(): Promise<Scene> {
  const context = contextOf(db);
  const scene = await answer(ground);
  await connect(ground.local.rpcUrl).mine({ blocks: 3 });
  const settlement = await createSettler({ context, chain, report }).settle(scene.payment);
  expect(settlement).toMatchObject({ kind: 'settled' });
  expect(await chain.balanceOf(scene.payee)).toBe(price);
  return scene;
}

async function transactionOf(scene: Scene) {
  const { id } = await paymentOf(db, scene);
  const [row] = await db.query<{ state: string; blockHash: string | null }>(
    `SELECT t.state, t.block_hash FROM settlement_transactions t
     JOIN settlement_items i USING (network, relayer, relayer_nonce) WHERE i.payment_id = $1
     ORDER BY relayer_nonce DESC LIMIT 1`,
    [id],
  );
  return row;
}

const settledOnce = ['payment.settled'];
const settledAgain = ['payment.settled', 'payment.settlement_undone', 'payment.settled'];

describe('a settlement whose block the chain has replaced', () => {
  it('is sent again as it was, and moves the money once', async () => {
    const scene = await settleOne();
    const before = await paymentOf(db, scene);
    await forgetLast(ground, 2);
    expect(await chain.balanceOf(scene.payee)).toBe(0n);

    await resume();
    expect(await chain.balanceOf(scene.payee)).toBe(price);
    expect(await paymentOf(db, scene)).toMatchObject({ state: 'settled', transaction: before.transaction });
    expect(await actionsOf(db, scene)).toEqual(settledAgain);
    await resume(60);
    expect(await actionsOf(db, scene), 'nothing is left to do').toEqual(settledAgain);
    expect(await chain.balanceOf(scene.payee)).toBe(price);
  });

  it('is sent again where the chain has fewer blocks than it had', async () => {
    const client = connect(ground.local.rpcUrl);
    const snapshot = await client.snapshot();
    const scene = await settleOne();
    await client.revert({ id: snapshot });
    // What was planted and funded is older than the snapshot; the payer's money isn't.
    await fundAccount(ground.local.rpcUrl, { address: scene.payer.address, tokenAtomic: price });
    await resume();
    expect(await chain.balanceOf(scene.payee)).toBe(price);
    expect(await actionsOf(db, scene)).toEqual(settledAgain);
  });

  it('and is mined in another block meanwhile has only moved: nothing is told twice', async () => {
    const scene = await settleOne();
    const before = await transactionOf(scene);
    await forgetLast(ground, 2);
    await resendMissing(db, chain, relayer, report);
    await expect.poll(() => chain.balanceOf(scene.payee)).toBe(price);

    await resume();
    expect(await actionsOf(db, scene)).toEqual(settledOnce);
    const after = await transactionOf(scene);
    expect(after?.state).toBe('mined');
    expect(after?.blockHash).not.toBe(before?.blockHash);
  });

  it('is settled by the next process when the one that noticed is killed before it has sent anything', async () => {
    const scene = await settleOne();
    await forgetLast(ground, 2);
    const killed = spawn(process.execPath, [worker, ground.database.url, ground.local.rpcUrl, 'notice'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    expect(await once(createInterface({ input: killed.stdout }), 'line')).toEqual(['notice']);
    const ended = once(killed, 'exit');
    killed.kill('SIGKILL');
    await ended;
    expect(await paymentOf(db, scene)).toMatchObject({ state: 'settling', transaction: null });
    expect(await chain.balanceOf(scene.payee)).toBe(0n);

    await resume(61);
    expect(await chain.balanceOf(scene.payee)).toBe(price);
    expect(await actionsOf(db, scene)).toEqual(settledAgain);
  });

  it('fails, and blames nobody, when the authorisation has run out meanwhile', async () => {
    const scene = await settleOne();
    await forgetLast(ground, 2);
    await connect(ground.local.rpcUrl).increaseTime({ seconds: 7_200 });
    await resume(7_200);

    expect(await paymentOf(db, scene)).toMatchObject({
      state: 'settlement_failed',
      failure: 'invalid_exact_evm_payload_authorization_valid_before',
    });
    expect(await actionsOf(db, scene)).toEqual([
      'payment.settled',
      'payment.settlement_undone',
      'payment.settlement_failed',
    ]);
    const suspended = await db.query(
      'SELECT 1 FROM payers WHERE payer = $1 AND suspended_until IS NOT NULL',
      [scene.payer.address],
    );
    expect(suspended).toEqual([]);
    expect(await chain.balanceOf(scene.payee)).toBe(0n);
  });

  it('is settled by another transaction when its nonce was used for something else', async () => {
    const scene = await settleOne();
    const before = await paymentOf(db, scene);
    await forgetLast(ground, 2);
    const account = privateKeyToAccount(relayerKey);
    const wallet = createWalletClient({ account, transport: http(ground.local.rpcUrl) });
    const hash = await wallet.sendTransaction({ chain: null, to: account.address, value: 0n });
    await connect(ground.local.rpcUrl).waitForTransactionReceipt({ hash });

    await resume(60);
    expect(await paymentOf(db, scene)).toMatchObject({ state: 'responded' });
    await resume(70);
    const after = await paymentOf(db, scene);
    expect(after.state).toBe('settled');
    expect(after.transaction).not.toBe(before.transaction);
    expect(await chain.balanceOf(scene.payee)).toBe(price);
  });

  it('is looked at until it is as deep as the chain is watched, and no longer', async () => {
    const shallow = openChain(ground.local.rpcUrl, { reorgDepth: 3 });
    const scene = await settleOne();
    const client = connect(ground.local.rpcUrl);
    await client.mine({ blocks: 2 });
    await resume(0, shallow);
    expect((await transactionOf(scene))?.state).toBe('mined');
    await client.mine({ blocks: 1 });
    await resume(0, shallow);
    expect((await transactionOf(scene))?.state).toBe('final');
  });
});
