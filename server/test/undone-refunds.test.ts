import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { type Address, encodeFunctionData, erc20Abi } from 'viem';
import { beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../contracts/test/local-chain.ts';
import { spawn } from 'node:child_process';
import { on, once } from 'node:events';
import type { Point } from '../src/kernel/points.ts';
import type { Arming } from './crash/points.ts';
import { createOrganisation } from '../src/accounts/index.ts';
import type { Database, WriteContext } from '../src/db/index.ts';
import { fundAccount } from '../src/embedded/index.ts';
import { createWallet, signRefund, tendRefunds } from '../src/wallet/index.ts';
import {
  type Chain,
  createSettler,
  finishDelivery,
  networks,
  type Payment,
  takeDelivery,
} from '../src/x402/index.ts';
import { createReorganisationWatch } from '../src/x402/settlement/reorganisations.ts';
import { recordBatch } from '../src/x402/settlement/settle-batch.ts';
import { contextOf, newOrder, openChain, price, relayer, report } from './crash/payment-parts.ts';
import { forgetLast, type Ground, openGround, payUpfront, resumeLater } from './helpers/settlement.ts';

const network = networks.sandbox;
const worker = new URL('crash/worker.fixture.ts', import.meta.url).pathname;
const day = 24 * 3_600;
let ground: Ground;
let db: Database;
let chain: Chain;
let context: WriteContext;
// A chain of its own for each test: what one has undone would be undone for the next.
beforeEach(async () => {
  ground = await openGround();
  ({ chain } = ground);
  ({ db } = ground.database);
  context = contextOf(db);
});

interface Refunded {
  original: Payment;
  refund: Payment;
  payer: Address;
  wallet: Address;
}

/** A payment that was settled first, whose upstream failed: its refund is due, and the wallet has this much besides. */
async function refuse(walletAtomic: bigint): Promise<Refunded> {
  const { id: environmentId } = await createOrganisation(context, 'Seller');
  const wallet = await createWallet(context, environmentId, network);
  const payer = privateKeyToAccount(generatePrivateKey());
  const { rpcUrl } = ground.local;
  await fundAccount(rpcUrl, { address: payer.address, tokenAtomic: price });
  if (walletAtomic > 0n) await fundAccount(rpcUrl, { address: wallet.address, tokenAtomic: walletAtomic });
  await connect(rpcUrl).mine({ blocks: 3 });
  const { target } = await newOrder();
  const settler = createSettler({ context, chain, report });
  const at = { ...target, environmentId };
  const original = await payUpfront(context, settler, payer, wallet.address, at);
  const taken = await takeDelivery(context, original);
  const refund = taken && (await signRefund(context, taken));
  if (!refund) throw new Error('no refund was signed');
  expect(await finishDelivery(context, taken, { kind: 'failed', failure: 'reset', refund })).toBe(true);
  return { original, refund, payer: payer.address, wallet: wallet.address };
}

/** What a process finds that looks so much later, by every clock. */
const resume = (seconds = 0, through = chain) => resumeLater({ ...ground, chain: through }, seconds);

const later = (seconds: number) => connect(ground.local.rpcUrl).increaseTime({ seconds });

async function rowOf({ id }: Payment) {
  const [row] = await db.query<Pick<Payment, 'delivery' | 'failure' | 'nonce' | 'state'>>(
    'SELECT state, failure, delivery, nonce FROM payments WHERE id = $1',
    [id],
  );
  return row;
}

async function told({ id }: Payment): Promise<string[]> {
  const rows = await db.query<{ action: string }>(
    'SELECT action FROM audit_events WHERE resource = $1 ORDER BY id',
    [id],
  );
  return rows.map(({ action }) => action);
}

/** A process that looks after refunds is killed where it stands at this point. */
async function killAt(at: Point): Promise<void> {
  const killed = spawn(
    process.execPath,
    ['--conditions=crash-test', worker, ground.database.url, ground.local.rpcUrl, 'tend'],
    { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] },
  );
  for await (const [said] of on(killed, 'message', { signal: AbortSignal.timeout(30_000) })) {
    if ('ready' in (said as object)) killed.send({ at, last: 'stay' } satisfies Arming);
    if ('reached' in (said as object)) break;
  }
  const ended = once(killed, 'exit');
  killed.kill('SIGKILL');
  await ended;
}

/** What payer and wallet have. */
const balances = ({ payer, wallet }: Refunded) =>
  Promise.all([chain.balanceOf(payer), chain.balanceOf(wallet)]);

/** The wallet's money is gone elsewhere. */
async function refuseBroke(): Promise<Refunded> {
  const refunded = await refuse(0n);
  const client = connect(ground.local.rpcUrl);
  await client.impersonateAccount({ address: refunded.wallet });
  await client.setBalance({ address: refunded.wallet, value: 10n ** 18n });
  const args = [relayer, price] as const;
  const data = encodeFunctionData({ abi: erc20Abi, functionName: 'transfer', args });
  const hash = await client.sendTransaction({ account: refunded.wallet, to: network.asset.address, data });
  await client.waitForTransactionReceipt({ hash });
  expect(await chain.balanceOf(refunded.wallet)).toBe(0n);
  return refunded;
}

describe('a refund that cannot be paid for a day', () => {
  it('is signed again once the chain can never carry out the first, and then paid once', async () => {
    const refunded = await refuseBroke();
    const { refund } = refunded;
    await resume(10);
    expect(await rowOf(refund)).toMatchObject({ state: 'responded', nonce: refund.nonce });
    // By this process's clock it has run out; by the chain's it hasn't.
    expect(await tendRefunds(contextOf(db, 2 * day), chain)).toBe(0);

    await later(day + 60);
    await resume(10);
    expect((await rowOf(refund))?.state, 'due as ever').toBe('responded');
    const renewed = await Promise.all([tendRefunds(context, chain), tendRefunds(context, chain)]);
    expect(
      renewed.reduce((sum, count) => sum + count),
      'signed by one of them',
    ).toBe(1);
    const after = await rowOf(refund);
    expect(after).toMatchObject({ state: 'responded', failure: null });
    expect(after?.nonce).not.toBe(refund.nonce);
    expect(await tendRefunds(context, chain), 'it is good for another day').toBe(0);

    await fundAccount(ground.local.rpcUrl, { address: refunded.wallet, tokenAtomic: 3n * price });
    await resume(10);
    await resume(10);
    expect(await balances(refunded)).toEqual([price, 2n * price]);
    expect(await told(refund)).toEqual(['payment.refund_renewed', 'payment.settled']);
    const claims = await db.query('SELECT nonce FROM payment_claims WHERE payment_id = $1', [refund.id]);
    expect(claims, 'both authorisations are claimed for ever').toHaveLength(2);
  });

  it.each([
    ['refund-renewing', false],
    ['refund-renewed', true],
  ] as const)(
    'is signed again once, and paid once, where a process is killed at %s',
    async (at, isRenewed) => {
      const refunded = await refuseBroke();
      await later(day + 60);
      await killAt(at);
      expect((await rowOf(refunded.refund))?.nonce !== refunded.refund.nonce).toBe(isRenewed);
      expect(await tendRefunds(context, chain)).toBe(isRenewed ? 0 : 1);
      await fundAccount(ground.local.rpcUrl, { address: refunded.wallet, tokenAtomic: 3n * price });
      await resume(10);
      expect(await balances(refunded)).toEqual([price, 2n * price]);
      expect(await told(refunded.refund)).toEqual(['payment.refund_renewed', 'payment.settled']);
    },
  );

  it('is not signed again where the first was used, whoever knows of it', async () => {
    const refunded = await refuse(price);
    const { recorded } = await recordBatch({ context, chain, report }, [refunded.refund]);
    await chain.broadcast(recorded?.transaction.raw ?? '0x');
    await expect.poll(() => chain.balanceOf(refunded.payer)).toBe(price);
    // As where nobody has told its end before it ran out.
    await db.query("UPDATE payments SET state = 'responded' WHERE id = $1", [refunded.refund.id]);
    await later(day + 60);
    expect(await tendRefunds(context, chain)).toBe(0);
    await resume(10);
    expect(await rowOf(refunded.refund)).toMatchObject({ state: 'settled', nonce: refunded.refund.nonce });
    expect(await balances(refunded)).toEqual([price, price]);
  });
});

it('a refund that was given up is paid where somebody has sent it all the same', async () => {
  const refunded = await refuse(price);
  const { recorded } = await recordBatch({ context, chain, report }, [refunded.refund]);
  await chain.broadcast(recorded?.transaction.raw ?? '0x');
  await expect.poll(() => chain.balanceOf(refunded.payer)).toBe(price);
  await db.query(
    "UPDATE payments SET state = 'settlement_failed', failure = 'unexpected_settle_error' WHERE id = $1",
    [refunded.refund.id],
  );
  await later(day + 60);
  expect(await tendRefunds(context, chain)).toBe(0);
  expect(await rowOf(refunded.refund)).toMatchObject({ state: 'settled', failure: null });
});

describe('a refund whose payment is not settled any more', () => {
  it('waits, and is paid when the payment is settled again', async () => {
    const refunded = await refuse(price);
    await forgetLast(ground, 2);
    await createReorganisationWatch({ context, chain, report })();
    expect((await recordBatch({ context, chain, report }, [refunded.refund])).recorded).toBeUndefined();
    await resume(10);
    expect((await rowOf(refunded.original))?.state).toBe('settled');
    await resume(10);
    expect((await rowOf(refunded.refund))?.state).toBe('settled');
    expect(await balances(refunded)).toEqual([price, price]);
  });

  it('is never paid where the payment cannot be settled again, and ends saying so', async () => {
    const refunded = await refuse(price);
    const { original, refund } = refunded;
    await forgetLast(ground, 2);
    await later(7_200);
    await resume(7_200);
    expect(await rowOf(original)).toMatchObject({ state: 'settlement_failed', delivery: 'refunded' });
    await resume(60);
    expect((await rowOf(refund))?.state).toBe('responded');
    for (let time = 0; time < 2; time += 1) await tendRefunds(context, chain);
    expect(await rowOf(refund)).toMatchObject({
      state: 'settlement_failed',
      failure: 'original_not_settled',
    });
    await resume(60);
    expect(await balances(refunded)).toEqual([price, price]);
    expect(await told(refund)).toEqual(['payment.settlement_failed']);
  });

  it('and that is paid already is the seller’s loss, which is recorded once and is seen', async () => {
    const shallow = openChain(ground.local.rpcUrl, { reorgDepth: 3 });
    const refunded = await refuse(price);
    const { original, refund } = refunded;
    expect(await createSettler({ context, chain, report }).settle(refund)).toMatchObject({ kind: 'settled' });
    await forgetLast(ground, 3);
    await later(7_200);
    await resume(7_200);
    expect(await rowOf(original)).toMatchObject({ state: 'settlement_failed', delivery: 'refunded' });
    expect(await rowOf(refund)).toMatchObject({ state: 'settled' });
    expect(await balances(refunded)).toEqual([2n * price, 0n]);

    await tendRefunds(context, shallow);
    expect((await rowOf(original))?.delivery, 'the refund may be undone as well').toBe('refunded');
    await connect(ground.local.rpcUrl).mine({ blocks: 4 });
    await resume(60, shallow);
    await Promise.all([tendRefunds(context, shallow), tendRefunds(context, shallow)]);
    expect(await rowOf(original)).toMatchObject({ state: 'settlement_failed', delivery: 'lost' });
    const losses = await db.query(
      "SELECT data FROM audit_events WHERE action = 'payment.refund_lost' AND resource = $1",
      [original.id],
    );
    expect(losses).toMatchObject([{ data: { amount: price.toString(), refund: refund.id } }]);
  });
});
