import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { createWalletClient, encodeFunctionData, type Hex, http } from 'viem';
import type { PrivateKeyAccount } from 'viem/accounts';
import { beforeAll, describe, expect, it } from 'vitest';
import artifact from '../../contracts/TestUsdc.json' with { type: 'json' };
import { connect } from '../../contracts/test/local-chain.ts';
import { signingDomain, newAccount, signingTypes } from '../../contracts/test/signatures.ts';
import { fundAccount } from '../../src/embedded/index.ts';
import { stringifyTyped } from '../../src/kernel/json.ts';
import {
  type Chain,
  createSettler,
  findStoredResponse,
  networks,
  type Payment,
} from '../../src/x402/index.ts';
import { transferCall } from '../../src/x402/chain/token-calls.ts';
import { resendMissing } from '../../src/x402/settlement/relayers.ts';
import { type TestDatabase } from '../helpers/database.ts';
import { contextOf, newOrder, type Point, price, relayer, report, storedAnswer } from './payment-parts.ts';
import { type Ground, letPass, openGround, paymentOf, type Scene } from '../helpers/settlement.ts';

const run = promisify(execFile);
const worker = new URL('worker.fixture.ts', import.meta.url).pathname;
const token = networks.sandbox.asset.address;
const funds = 1_000_000n;

let ground: Ground;
let database: TestDatabase;
let chain: Chain;
beforeAll(async () => {
  ground = await openGround();
  ({ database, chain } = ground);
});

/** A signed payment whose payer has the money. */
async function newScene(): Promise<Scene> {
  const scene = await newOrder();
  await fundAccount(ground.local.rpcUrl, { address: scene.payer.address, tokenAtomic: funds });
  return scene;
}

/** Lets a process bring a payment to the point, and kills that process there. */
async function killAt(point: Point, given?: Scene): Promise<Scene> {
  const scene = given ?? (await newScene());
  const order = stringifyTyped({ sent: scene.sent, target: scene.target });
  const killed = spawn(process.execPath, [worker, database.url, ground.local.rpcUrl, point, order], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  expect(await once(createInterface({ input: killed.stdout }), 'line')).toEqual([point]);
  const ended = once(killed, 'exit');
  killed.kill('SIGKILL');
  expect(await ended).toEqual([null, 'SIGKILL']);
  return scene;
}

/** What a process finds that looks so much later. */
async function resume(seconds = 60): Promise<void> {
  await letPass(database.db, seconds);
  await createSettler({ context: contextOf(database.db), chain, report }).resume();
}

async function balances({ payer, payee }: Scene): Promise<bigint[]> {
  return [await chain.balanceOf(payer.address), await chain.balanceOf(payee)];
}

/** How often a payment is told as settled, to the wallet's worker and in the audit log. */
async function tellings({ sent }: Scene, payment: Payment): Promise<number[]> {
  const nonce = [sent.authorization.nonce];
  const outbox = await database.db.query("SELECT 1 FROM outbox WHERE payload->>'nonce' = $1", nonce);
  const audit = await database.db.query(
    "SELECT 1 FROM audit_events WHERE resource = $1 AND action = 'payment.settled'",
    [payment.id],
  );
  return [outbox.length, audit.length];
}

async function expectSettledOnce(scene: Scene): Promise<Payment> {
  const payment = await paymentOf(database.db, scene);
  expect(payment).toMatchObject({
    state: 'settled',
    leaseUntil: null,
    transaction: expect.stringMatching(/^0x/),
  });
  expect(await balances(scene)).toEqual([funds - price, price]);
  expect(await tellings(scene, payment)).toEqual([1, 1]);
  expect(await findStoredResponse(contextOf(database.db), payment)).toEqual(storedAnswer);
  return payment;
}

/** Sends call data to the token, as anybody may, and waits until it is mined. */
async function callToken(account: PrivateKeyAccount, data: Hex): Promise<Hex> {
  await fundAccount(ground.local.rpcUrl, { address: account.address, wei: 10n ** 18n });
  const client = createWalletClient({ account, transport: http(ground.local.rpcUrl) });
  const hash = await client.sendTransaction({ chain: null, to: token, data });
  await connect(ground.local.rpcUrl).waitForTransactionReceipt({ hash });
  return hash;
}

describe('a payment whose process was killed', () => {
  it.each(['responded', 'recorded', 'sent'] as const)(
    'when it was %s is settled once by whoever resumes, with its answer kept',
    async (point) => {
      const scene = await killAt(point);
      expect((await paymentOf(database.db, scene)).state).toBe(
        point === 'responded' ? 'responded' : 'settling',
      );
      await resume();
      const payment = await expectSettledOnce(scene);
      await resume(0);
      expect(await expectSettledOnce(scene), 'nothing is left to do').toEqual(payment);
    },
  );

  it('while its upstream was running is open again, and nothing is charged', async () => {
    const scene = await killAt('claimed');
    await resume();
    expect(await paymentOf(database.db, scene)).toMatchObject({ state: 'open', failure: 'interrupted' });
    expect(await balances(scene)).toEqual([funds, 0n]);
  });

  it.each(['claimed', 'recorded'] as const)(
    'when it was %s stays its own until its lease is over: it may only be slow',
    async (point) => {
      const scene = await killAt(point);
      const before = await paymentOf(database.db, scene);
      await resume(0);
      expect(await paymentOf(database.db, scene)).toEqual(before);
      await resume();
    },
  );

  it('is charged once when two processes resume at the same time', async () => {
    const scenes = await Promise.all(
      (['responded', 'recorded', 'sent'] as const).map((point) => killAt(point)),
    );
    await letPass(database.db, 60);
    const args = [worker, database.url, ground.local.rpcUrl, 'resume'];
    await Promise.all([run(process.execPath, args), run(process.execPath, args)]);
    for (const scene of scenes) expect((await expectSettledOnce(scene)).state).toBe('settled');
  });
});

/** The transaction that settles a payment, as its row says. */
async function transactionsOf(payment: Payment) {
  return database.db.query<{ state: string; hashes: string[]; leaseUntil: Date }>(
    `SELECT t.state, t.hashes, t.lease_until FROM settlement_transactions t
     JOIN settlement_items i USING (network, relayer, relayer_nonce) WHERE i.payment_id = $1`,
    [payment.id],
  );
}

describe('a transaction that the chain leaves lying', () => {
  it('is taken over, sent again with a higher fee, and told once, whichever is mined and whoever sees it', async () => {
    const anvil = connect(ground.local.rpcUrl);
    const scene = await killAt('sent');
    const payment = await paymentOf(database.db, scene);
    const late = await killAt('recorded');
    await anvil.setAutomine(false);
    try {
      const lease = async () => (await transactionsOf(await paymentOf(database.db, late)))[0]?.leaseUntil;
      const before = await lease();
      const slow = resume(60);
      await expect.poll(lease, { timeout: 5_000 }).not.toEqual(before);
      await expect
        .poll(async () => (await transactionsOf(await paymentOf(database.db, late)))[0]?.hashes.length, {
          timeout: 5_000,
        })
        .toBeGreaterThan(1);
      const faster = resume(60);
      await anvil.setAutomine(true);
      await anvil.mine({ blocks: 1 });
      await Promise.all([slow, faster]);
    } finally {
      await anvil.setAutomine(true);
    }
    for (const one of [payment, await expectSettledOnce(late)]) {
      expect(await transactionsOf(one)).toEqual([expect.objectContaining({ state: 'mined' })]);
    }
    await expectSettledOnce(scene);
  });
});

describe('a payment that was answered and not settled yet', () => {
  it('fails, uncharged, when its payer has cancelled the authorisation', async () => {
    const scene = await killAt('responded');
    const message = { authorizer: scene.payer.address, nonce: scene.sent.authorization.nonce };
    const signature = await scene.payer.signTypedData({
      domain: signingDomain,
      types: signingTypes,
      primaryType: 'CancelAuthorization',
      message,
    });
    const args = [message.authorizer, message.nonce, signature];
    const { abi } = artifact;
    await callToken(scene.payer, encodeFunctionData({ abi, functionName: 'cancelAuthorization', args }));

    await resume();
    const payment = await paymentOf(database.db, scene);
    expect(payment).toMatchObject({ state: 'settlement_failed', failure: 'invalid_transaction_state' });
    expect(await balances(scene)).toEqual([funds, 0n]);
    expect(await tellings(scene, payment)).toEqual([0, 0]);
  });

  it.each(['responded', 'recorded'] as const)(
    'when it was %s is settled by a stranger’s transaction that carries out exactly its transfer',
    async (point) => {
      const scene = await killAt(point);
      const transaction = await callToken(newAccount(), transferCall(scene.sent));
      await resume();
      expect(await expectSettledOnce(scene)).toMatchObject({ transaction });
    },
  );

  it('is never taken for settled by another transfer: same nonce, other amount, recipient or payer', async () => {
    const scene = await killAt('responded');
    await resume();
    const { authorization } = scene.sent;
    const { transaction } = await expectSettledOnce(scene);
    expect(await chain.findSettlement(authorization)).toBe(transaction);
    for (const other of [{ value: price + 1n }, { to: scene.payer.address }, { from: scene.payee }])
      expect(await chain.findSettlement({ ...authorization, ...other })).toBeUndefined();
  });
});

describe('a chain that has forgotten its last transactions', () => {
  it('is sent them again, in order, and moves the money once', async () => {
    const anvil = connect(ground.local.rpcUrl);
    const scenes = [await newScene(), await newScene()];
    const snapshot = await anvil.snapshot();
    for (const scene of scenes) {
      await killAt('responded', scene);
      await resume();
      await expectSettledOnce(scene);
    }
    await anvil.revert({ id: snapshot });
    for (const scene of scenes) expect(await balances(scene)).toEqual([funds, 0n]);

    expect(await resendMissing(database.db, chain, relayer, report)).toBe(2);
    for (const scene of scenes) await expectSettledOnce(scene);
    expect(await resendMissing(database.db, chain, relayer, report), 'nothing is missing').toBe(0);
  });
});
