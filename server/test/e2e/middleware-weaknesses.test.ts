import { randomBytes } from 'node:crypto';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { PaymentPayload } from '@x402/core/types';
import { parseEventLogs } from 'viem';
import { privateKeyToAddress } from 'viem/accounts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { fiatTokenAbi } from '../../contracts/test/fiat-token-abi.ts';
import { connect, type LocalChain, startLocalChain } from '../../contracts/test/local-chain.ts';
import {
  baseSepoliaUsdc,
  fundAccount,
  plantBatchContract,
  plantTestToken,
} from '../../src/embedded/index.ts';
import { openTestDatabase, type TestDatabase } from '../helpers/database.ts';
import { findFreePort, type Instance, startInstance } from '../helpers/instance.ts';
import {
  askTerms,
  authorizationOf,
  decode,
  newPayer,
  openChain,
  type Payer,
  sendPaid,
} from '../helpers/payer.ts';
import { killMain, lookAfter } from '../helpers/processes.ts';
import type { Answer } from '../helpers/request.ts';
import { type RpcRelay, startRpcRelay } from '../helpers/rpc-relay.ts';
import { price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

// Each is a weakness that bench/weaknesses shows on the official middleware; its README says where the tests of the others are.
vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

/** No more than what one call costs: a second charge, or a second claim on the money, could not pass. */
const funds = price;
const relayerKey = `0x${randomBytes(32).toString('hex')}` as const;
const relayer = privateKeyToAddress(relayerKey);
const masterKey = randomBytes(32).toString('hex');

let local: LocalChain;
let anvil: ReturnType<typeof connect>;
let chain: ReturnType<typeof openChain>;
let relay: RpcRelay;
let database: TestDatabase;
let upstream: Upstream;
/** Two processes over one database and one chain, each gateway and worker. */
let instances: Instance[];
let sold: Sold;
let payer: Payer;
let url: string;
let payment: PaymentPayload;

const ports: { api: number; gateway: number }[] = [];
const folders: string[] = [];

/** Starts the first or the second, where it was before: a killed one comes back to its folder and its ports. */
async function start(which: 0 | 1): Promise<Instance> {
  ports[which] ??= { api: await findFreePort(), gateway: await findFreePort() };
  folders[which] ??= lookAfter(await mkdtemp(join(tmpdir(), 'credence-weakness-')));
  return startInstance({
    dataDirectory: folders[which],
    ports: ports[which],
    env: {
      DATABASE_URL: database.url,
      CREDENCE_MASTER_KEY: masterKey,
      CREDENCE_SANDBOX_RPC_URL: relay.url,
      CREDENCE_SANDBOX_RELAYER_KEY: relayerKey,
    },
  });
}

beforeAll(async () => {
  [database, local] = await Promise.all([openTestDatabase(), startLocalChain()]);
  await plantTestToken(local.rpcUrl, baseSepoliaUsdc);
  await plantBatchContract(local.rpcUrl);
  await fundAccount(local.rpcUrl, { address: relayer, wei: 10n ** 20n });
  anvil = connect(local.rpcUrl);
  chain = openChain({ info: { rpc_url: local.rpcUrl } });
  relay = await startRpcRelay(local.rpcUrl);
  upstream = await startUpstream(() => undefined);
  instances = [await start(0), await start(1)];
});
afterAll(async () => {
  for (const instance of instances ?? []) await instance.stop();
  await relay?.down();
  await upstream?.close();
  await local?.stop();
});

let count = 0;
beforeEach(async () => {
  upstream.requests.length = 0;
  upstream.behave((_request, response) => response.end(`run ${upstream.requests.length}`));
  sold = await sell(first(), upstream.url, `weak-${++count}`);
  url = `${sold.url}/paid`;
  payer = await newPayer({ info: { rpc_url: local.rpcUrl } }, funds);
  payment = await payer.pay(await askTerms(url));
});
afterEach(async () => {
  relay.treat(() => 'pass');
  await anvil.setAutomine(true);
});

const first = (): Instance => instances[0] as Instance;
const spent = async () => funds - (await chain.balanceOf(payer.address));
const stateOf = async () => {
  const [row] = await database.db.query<{ state: string }>('SELECT state FROM payments WHERE nonce = $1', [
    authorizationOf(payment).nonce,
  ]);
  return row?.state;
};
const pendingTransactions = async () => (await anvil.getTxpoolStatus()).pending;

/** What every test ends with: whoever paid has the answer of the one run, and has paid once. */
async function expectBoughtOnce(): Promise<void> {
  let answer = await sendPaid(url, payment);
  while (isPending(answer)) {
    await endWatches();
    answer = await sendPaid(url, payment);
  }
  expect(answer).toMatchObject({ status: 200, text: 'run 1' });
  expect(decode(answer.headers['payment-response'])).toMatchObject({ success: true });
  expect(upstream.requests).toHaveLength(1);
  expect(await spent()).toBe(price);
  expect(await chain.balanceOf(sold.payTo)).toBe(price);
}

/** Whoever watches a transaction does so for half a minute; when that is over, any worker may take it up. */
const endWatches = () =>
  database.db.query("UPDATE settlement_transactions SET lease_until = now() WHERE state = 'sent'");

describe('concurrent replay and reverted gas', () => {
  it('a payment sent 40 times at once to two gateways becomes one run, one transfer, and no transaction that reverts', async () => {
    upstream.behave((_request, response) => void setTimeout(() => response.end('run 1'), 200));
    const before = await chain.receiptsOf(relayer);
    const other = url.replace(first().info.gateway_url, (instances[1] as Instance).info.gateway_url);
    const urls = Array.from({ length: 40 }, (_, index) => (index % 2 === 0 ? url : other));
    const answers = await Promise.all(urls.map((one) => sendPaid(one, payment)));

    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`))).toEqual(new Set(['200 run 1']));
    await expectBoughtOnce();
    const sent = (await chain.receiptsOf(relayer)).slice(before.length);
    expect(sent.map(({ status }) => status)).toEqual(['success']);
    const events = parseEventLogs({ abi: fiatTokenAbi, logs: sent.flatMap(({ logs }) => logs) });
    expect(events.map(({ eventName }) => eventName)).toEqual(['AuthorizationUsed', 'Transfer']);
  });
});

describe('paid but denied', () => {
  it('a payment that was settled while its client was cut off fetches the answer', async () => {
    await anvil.setAutomine(false);
    const leaving = new AbortController();
    const cut = sendPaid(url, payment, { signal: leaving.signal }).catch((error: Error) => error.name);
    await expect.poll(pendingTransactions).toBe(1);
    leaving.abort();
    expect(await cut).toBe('AbortError');
    await anvil.mine({ blocks: 1 });
    await anvil.setAutomine(true);
    await expect.poll(stateOf, { timeout: 10_000 }).toBe('settled');
    await expectBoughtOnce();
  });

  it('a payment that the chain took, while its word on that was lost, is not denied', async () => {
    const lost: string[] = [];
    relay.treat((methods) => {
      if (lost.length > 0 || !methods.includes('eth_sendRawTransaction')) return 'pass';
      lost.push(...methods);
      return 'lose';
    });
    const answer = await sendPaid(url, payment);
    expect(lost).toContain('eth_sendRawTransaction');
    expect(answer.headers, 'nobody should sign another').not.toHaveProperty('payment-required');
    expect(answer.status === 200 || isPending(answer), answer.text).toBe(true);
    await endWatches();
    await expectBoughtOnce();
  });
});

describe('pending settlement', () => {
  it(
    'a payment that is not mined in time is told to be pending, without terms, and buys its answer after the block',
    { timeout: 90_000 },
    async () => {
      await anvil.setAutomine(false);
      const pending = await sendPaid(url, payment);
      expect(pending.status).toBe(402);
      expect(pending.json()).toMatchObject({ code: 'settlement_pending' });
      expect(pending.headers, 'nobody should sign another').not.toHaveProperty('payment-required');
      expect(decode(pending.headers['payment-response'])).toMatchObject({
        success: false,
        errorReason: 'settlement_pending',
      });
      expect(await spent()).toBe(0n);

      // Sent again while it is still pending, it waits on.
      const again = sendPaid(url, payment);
      await anvil.mine({ blocks: 1 });
      await anvil.setAutomine(true);
      expect(await again).toMatchObject({ status: 200, text: 'run 1' });
      await expectBoughtOnce();
    },
  );
});

describe('facilitator outage', () => {
  it.each<[string, () => Promise<unknown>, () => Promise<unknown>]>([
    ['cannot be reached', () => relay.down(), () => relay.up()],
    ['does not answer', async () => relay.treat(() => 'hold'), async () => relay.treat(() => 'pass')],
  ])(
    'a payment while the chain %s is answered 503, is said to be still good, and is good afterwards',
    async (_, fail, mend) => {
      await fail();
      const during = await sendPaid(url, payment);
      await mend();
      expect(during.status).toBe(503);
      expect(during.json()).toMatchObject({
        code: 'unavailable',
        detail: expect.stringContaining('try again with the same payment'),
      });
      expect(during.headers).not.toHaveProperty('payment-required');
      expect(upstream.requests).toHaveLength(0);
      await expectBoughtOnce();
    },
  );
});

describe('state lost on restart', () => {
  it.each<[string, () => Promise<unknown>, () => Promise<void>]>([
    [
      'between the upstream and the settlement',
      async () => relay.treat((methods) => (methods.includes('eth_call') ? askedForSettling() : 'pass')),
      () => expect.poll(stateOf, { timeout: 10_000 }).toBe('responded'),
    ],
    [
      'while its transaction waits for a block',
      () => anvil.setAutomine(false),
      () => expect.poll(pendingTransactions, { timeout: 10_000 }).toBe(1),
    ],
  ])(
    'a payment whose gateway is killed %s buys its answer after the restart',
    async (_, holdUp, waitUntilThere) => {
      await (instances[1] as Instance).stop();
      await holdUp();
      const cut = sendPaid(url, payment).then(
        () => 'answered',
        () => 'cut',
      );
      await waitUntilThere();
      await killMain(first());
      expect(await cut).toBe('cut');
      expect(upstream.requests).toHaveLength(1);
      relay.treat(() => 'pass');
      await anvil.mine({ blocks: 1 });
      await anvil.setAutomine(true);

      await endWatches();
      instances = [await start(0), await start(1)];
      await expectBoughtOnce();
    },
  );
});

function isPending({ status, text }: Answer): boolean {
  return status === 402 && (JSON.parse(text) as { code?: string }).code === 'settlement_pending';
}

/** The balance is asked before the upstream is called; what is asked afterwards, nobody answers. */
function askedForSettling(): 'hold' | 'pass' {
  return upstream.requests.length > 0 ? 'hold' : 'pass';
}
