import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Address } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { fundAccount } from '../../src/embedded/index.ts';
import { openTestDatabase, type TestDatabase } from '../helpers/database.ts';
import { foreignTerms, newTenantKey, orderOf, settle, verify } from '../helpers/facilitator.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { authorizationOf, newPayer, openChain, type Payer, settleOnChain } from '../helpers/payer.ts';
import { killMain } from '../helpers/processes.ts';
import { price } from '../helpers/seller.ts';

/** Of `transferWithAuthorization`: whatever sends a payment to the chain, or tries it out there, names it. */
const transferSelector = 'e3ee160e';
const perDay = 7;

/** An RPC that passes everything on to another, and can hold back what has to do with settling. */
async function startRpcProxy(rpcUrl: string) {
  const held: (() => void)[] = [];
  const state = {
    holding: false,
    held,
    url: '',
    release() {
      state.holding = false;
      for (const pass of held.splice(0)) pass();
    },
    close: () => server.closeAllConnections(),
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      const pass = () =>
        void fetch(rpcUrl, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
          .then(async (answer) => response.writeHead(answer.status).end(await answer.text()))
          .catch(() => response.destroy());
      if (state.holding && body.includes(transferSelector)) held.push(pass);
      else pass();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  state.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return state;
}

describe('the facilitator in two processes over one database', { timeout: 60_000 }, () => {
  let database: TestDatabase;
  let whole: Instance;
  let front: Instance;
  let proxy: Awaited<ReturnType<typeof startRpcProxy>>;
  let payer: Payer;
  let payTo: Address;

  const shared = () => ({
    DATABASE_URL: database.url,
    CREDENCE_MASTER_KEY: '07'.repeat(32),
    CREDENCE_FACILITATOR_SETTLEMENTS_PER_DAY: String(perDay),
  });
  /** A process that takes requests and has no workers; its RPC is the proxy. */
  const startFront = async () => {
    const relayerKey = await readFile(join(whole.dataDirectory, 'relayer.key'), 'utf8');
    return startInstance({
      env: {
        ...shared(),
        CREDENCE_ROLES: 'control',
        CREDENCE_SANDBOX_RPC_URL: proxy.url,
        CREDENCE_SANDBOX_RELAYER_KEY: `0x${relayerKey.trim()}`,
      },
    });
  };

  beforeAll(async () => {
    database = await openTestDatabase();
    whole = await startInstance({ env: shared() });
    proxy = await startRpcProxy(whole.info.rpc_url);
    front = await startFront();
  }, 60_000);
  afterAll(async () => {
    proxy?.close();
    await front?.stop();
    await whole?.stop();
  }, 60_000);
  beforeEach(async () => {
    payer = await newPayer(whole, 100n * price);
    payTo = privateKeyToAccount(generatePrivateKey()).address;
  });

  const newOrder = () => orderOf(payer, foreignTerms(payTo));
  type Order = Awaited<ReturnType<typeof newOrder>>;
  const received = () => openChain(whole).balanceOf(payTo);
  const nonceOf = (order: Order) => authorizationOf(order.paymentPayload).nonce;
  const stateOf = async (order: Order) => {
    const [row] = await database.db.query<{ state: string }>('SELECT state FROM payments WHERE nonce = $1', [
      nonceOf(order),
    ]);
    return row?.state;
  };
  const transactionsOf = (order: Order) =>
    database.db.query(
      'SELECT i.relayer_nonce FROM settlement_items i JOIN payments p ON p.id = i.payment_id WHERE p.nonce = $1',
      [nonceOf(order)],
    );

  it('settles a payment that both are asked for at once in one transaction, and says so to one call', async () => {
    const key = await newTenantKey(database.db);
    const order = await newOrder();
    const answers = await Promise.all(
      [whole, front, whole, front, whole, front].map((instance) => settle(instance, order, key)),
    );
    expect(answers.filter((answer) => answer.json().success)).toHaveLength(1);
    expect(await transactionsOf(order)).toHaveLength(1);
    expect(await received()).toBe(price);
  });

  it('gives the same answer to one call that is retried at both, by its Idempotency-Key', async () => {
    const key = await newTenantKey(database.db);
    const order = await newOrder();
    const answers = await Promise.all(
      [whole, front, whole, front].map((instance) => settle(instance, order, key, 'one-delivery')),
    );
    expect(answers[0]?.json()).toMatchObject({ success: true });
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(await received()).toBe(price);
  });

  it('has exactly as many payments settled a day as the quota says, and tells again what it told before', async () => {
    const key = await newTenantKey(database.db);
    const orders = await Promise.all(Array.from({ length: 2 * perDay }, newOrder));
    const poor = await orderOf(await newPayer(whole, 0n), foreignTerms(payTo));
    expect((await settle(whole, poor, key)).json(), 'refused ones are not counted').toMatchObject({
      errorReason: 'insufficient_funds',
    });
    const answers = await Promise.all(
      orders.map((order, index) => settle(index % 2 === 0 ? whole : front, order, key, `order-${index}`)),
    );
    const settled = answers.filter(({ status }) => status === 200);
    expect(settled.map((answer) => answer.json().success)).toEqual(Array(perDay).fill(true));
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.map((answer) => answer.json().code)).toEqual(Array(perDay).fill('quota_exceeded'));
    expect(await received()).toBe(BigInt(perDay) * price);

    for (const [index, order] of orders.entries()) {
      const again = await settle(front, order, key, `order-${index}`);
      if (answers[index]?.status === 200) expect(again.text).toBe(answers[index].text);
      else expect([again.status, await stateOf(order)]).toEqual([429, undefined]);
    }
    const other = await newTenantKey(database.db);
    const left = orders.find((_order, index) => answers[index]?.status === 429);
    expect((await settle(front, left, other)).json(), "another tenant's quota").toMatchObject({
      success: true,
    });
  });

  /** Lets the process that has no workers claim a payment, and kills it before it sends anything. */
  async function killAfterClaim(order: Order, key: string): Promise<void> {
    proxy.holding = true;
    const cut = settle(front, order, key).then(
      () => 'answered',
      () => 'cut',
    );
    await expect.poll(() => stateOf(order)).toBe('responded');
    await expect.poll(() => proxy.held.length).toBeGreaterThan(0);
    await killMain(front);
    proxy.holding = false;
    // Nobody is left to hear their answers.
    proxy.held.length = 0;
    expect(await cut).toBe('cut');
    expect(await transactionsOf(order), 'nothing was sent').toHaveLength(0);
  }

  it('killed between claim and sending, has the payment settled once by the next call', async () => {
    const key = await newTenantKey(database.db);
    const order = await newOrder();
    await killAfterClaim(order, key);
    const answers = await Promise.all([settle(whole, order, key), settle(whole, order, key)]);
    expect(answers.filter((answer) => answer.json().success)).toHaveLength(1);
    expect(await transactionsOf(order)).toHaveLength(1);
    expect(await received()).toBe(price);
    front = await startFront();
  });

  it('killed between claim and sending, has the payment settled once by a worker, without another call', async () => {
    const key = await newTenantKey(database.db);
    const order = await newOrder();
    await killAfterClaim(order, key);
    await expect.poll(() => stateOf(order), { timeout: 30_000 }).toBe('settled');
    expect(await transactionsOf(order)).toHaveLength(1);
    expect(await received()).toBe(price);
    expect((await settle(whole, order, key)).json()).toMatchObject({ success: true });
    expect(await received()).toBe(price);
    front = await startFront();
  });

  it('has a payment whose money was gone settled by the same call once it is back, and counts it once', async () => {
    const key = await newTenantKey(database.db);
    const poor = await newPayer(whole, price);
    const order = await orderOf(poor, foreignTerms(payTo));
    const elsewhere = await orderOf(poor, foreignTerms(privateKeyToAccount(generatePrivateKey()).address));
    proxy.holding = true;
    const first = settle(front, order, key);
    await expect.poll(() => proxy.held.length).toBeGreaterThan(0);
    await settleOnChain(whole, elsewhere.paymentPayload);
    proxy.release();
    expect((await first).json()).toMatchObject({
      success: false,
      errorReason: 'insufficient_funds',
      transaction: '',
    });

    await fundAccount(whole.info.rpc_url, { address: poor.address, tokenAtomic: price });
    expect((await verify(whole, order)).json()).toMatchObject({ isValid: true });
    expect((await settle(whole, order, key)).json()).toMatchObject({ success: true });
    expect(await received()).toBe(price);
    const counted = await database.db.query(
      `SELECT settlements FROM facilitator_usage WHERE environment_id = (SELECT environment_id FROM payments WHERE nonce = $1)`,
      [nonceOf(order)],
    );
    expect(counted).toEqual([{ settlements: 1 }]);
  });

  it('has a payer that the gateway has suspended refused before the work, and settled for after it', async () => {
    const key = await newTenantKey(database.db);
    const order = await newOrder();
    await database.db.query(
      `INSERT INTO payers (network, asset, payer, suspended_until)
       SELECT $1, $2, $3, now() + interval '1 hour'`,
      [order.paymentRequirements.network, order.paymentRequirements.asset, payer.address],
    );
    expect((await verify(whole, order)).json()).toMatchObject({ invalidReason: 'payer_suspended' });
    expect((await settle(whole, order, key)).json()).toMatchObject({ success: true });
    expect(await received()).toBe(price);
  });

  it('answers settlement_pending with the transaction while the chain is silent, and the hash once it has spoken', async () => {
    const key = await newTenantKey(database.db);
    const order = await newOrder();
    const { client } = openChain(whole);
    await client.request({ method: 'evm_setAutomine' as never, params: [false] as never });
    try {
      const answer = await settle(whole, order, key);
      expect(answer.status).toBe(200);
      expect(answer.json()).toMatchObject({
        success: false,
        errorReason: 'settlement_pending',
        transaction: expect.stringMatching(/^0x[0-9a-f]{64}$/),
      });
      // Nobody else's work is to be done for it meanwhile.
      expect((await verify(whole, order)).json()).toMatchObject({
        isValid: false,
        invalidReason: 'invalid_transaction_state',
      });
    } finally {
      await client.request({ method: 'evm_setAutomine' as never, params: [true] as never });
      await client.request({ method: 'evm_mine' as never });
    }
    const settled = await settle(whole, order, key);
    expect(settled.json()).toMatchObject({ success: true });
    expect(await transactionsOf(order)).toHaveLength(1);
    expect(await received()).toBe(price);
  });
});
