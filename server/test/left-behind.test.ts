import { createWalletClient, http } from 'viem';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { connect } from '../contracts/test/local-chain.ts';
import { newAccount } from '../contracts/test/signatures.ts';
import type { Database } from '../src/db/index.ts';
import { fundAccount } from '../src/embedded/index.ts';
import { type Chain, createSettler, resumeCredits } from '../src/x402/index.ts';
import { transferCall } from '../src/x402/chain/token-calls.ts';
import { sweepStoredResponses } from '../src/x402/payments/payments.sql.ts';
import { recordBatch } from '../src/x402/settlement/settle-batch.ts';
import { claim, contextOf, newOrder, openChain, price, report } from './crash/payment-parts.ts';
import { startRpcProxy } from './helpers/rpc-proxy.ts';
import {
  actionsOf,
  answer,
  type Answered,
  forgetLast,
  type Ground,
  letPass,
  openGround,
  paymentOf,
} from './helpers/settlement.ts';

let ground: Ground;
let db: Database;
beforeAll(async () => {
  ground = await openGround();
  ({ db } = ground.database);
});
afterEach(() => void vi.useRealTimers());

/** Has a stranger send a payment, as anybody may who has seen it. */
async function sendAsStranger({ sent }: Answered): Promise<void> {
  const account = newAccount();
  await fundAccount(ground.local.rpcUrl, { address: account.address, wei: 10n ** 18n });
  const wallet = createWalletClient({ account, transport: http(ground.local.rpcUrl) });
  const hash = await wallet.sendTransaction({ chain: null, to: sent.asset, data: transferCall(sent) });
  await connect(ground.local.rpcUrl).waitForTransactionReceipt({ hash });
}

describe('a payment that was told as settled', () => {
  it('is watched while nothing is known of another of its transaction', async () => {
    const [clear, unclear] = [await answer(ground), await answer(ground)];
    const context = contextOf(db);
    const payments = [clear.payment, unclear.payment];
    const { recorded } = await recordBatch({ context, chain: ground.chain, report }, payments);
    await sendAsStranger(unclear);
    await ground.chain.broadcast(recorded?.transaction.raw ?? '0x');
    await expect.poll(() => ground.chain.balanceOf(clear.payee)).toBe(price);

    const proxy = await startRpcProxy(ground.local.rpcUrl);
    // Used, it says, and for what it has forgotten.
    proxy.behave({ alter: ({ method }, result) => (method === 'eth_getLogs' ? [] : result) });
    await letPass(db, 60);
    const settler = createSettler({ context, chain: openChain(proxy.url), report });
    await settler.resume();
    expect((await paymentOf(db, clear)).state).toBe('settled');
    expect((await paymentOf(db, unclear)).state).toBe('settling');

    await forgetLast(ground, 1);
    await settler.resume();
    proxy.close();
    expect(await actionsOf(db, clear)).toContain('payment.settlement_undone');
    await letPass(db, 60);
    await createSettler({ context, chain: ground.chain, report }).resume();
    expect((await paymentOf(db, clear)).state).toBe('settled');
    expect(await ground.chain.balanceOf(clear.payee)).toBe(price);
  });
});

describe('whoever waits for a settlement', () => {
  it('has a word after half a minute, also behind a batch that hangs', async () => {
    const answered = [await answer(ground), await answer(ground)];
    const hanging: Chain = { ...ground.chain, examine: () => new Promise(() => undefined) };
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const settler = createSettler({ context: contextOf(db), chain: hanging, report });
    const [first, second] = answered.map(({ payment }) => settler.settle(payment));
    await new Promise((resolve) => setImmediate(resolve));
    vi.advanceTimersByTime(30_000);
    expect(await Promise.all([first, second])).toEqual([{ kind: 'pending' }, { kind: 'pending' }]);
  });
});

describe('what is taken up', () => {
  it('of credits goes on behind one that cannot be given back', async () => {
    const context = contextOf(db);
    const payments = [await claim(context, await newOrder()), await claim(context, await newOrder())];
    // Nothing was reserved for these: the ledger refuses to give anything back.
    await db.query(
      "UPDATE payments SET network = 'credence:credits', lease_until = now() WHERE id = ANY ($1)",
      [payments.map(({ id }) => id)],
    );
    const failures: unknown[] = [];
    expect(await resumeCredits(context, (error) => failures.push(error))).toBe(2);
    expect(failures).toHaveLength(2);
  });

  it('of stored answers is freed some hundreds at a time, and waits for nobody', async () => {
    await db.query(
      `INSERT INTO stored_responses (environment_id, payment_id, status, sealed, body_hash, created_at, expires_at)
       SELECT 'env', 'pay_' || n, 200, 'sealed', sha256('body'), now(), now() - interval '1 hour' FROM generate_series(1, 1200) AS n`,
    );
    const locked = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const holding = db.transaction(async (sql) => {
      await sql.query("SELECT 1 FROM stored_responses WHERE payment_id = 'pay_7' FOR UPDATE");
      locked.resolve();
      await release.promise;
    });
    await locked.promise;
    expect(await sweepStoredResponses(db, new Date())).toBe(1_199);
    release.resolve();
    await holding;
    expect(await sweepStoredResponses(db, new Date())).toBe(1);
  });
});
