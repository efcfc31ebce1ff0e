import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { openTestDatabase, type TestDatabase } from '../helpers/database.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { type LaggingRpc, startLaggingRpc } from '../helpers/lagging-rpc.ts';
import { askTerms, newPayer, openChain, sendPaid } from '../helpers/payer.ts';
import { price, sell } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

describe('a payer with one cent, whose balance a node is asked that is behind', { timeout: 60_000 }, () => {
  let database: TestDatabase;
  let whole: Instance;
  let front: Instance;
  let rpc: LaggingRpc;
  let upstream: Upstream;

  beforeAll(async () => {
    database = await openTestDatabase();
    const shared = { DATABASE_URL: database.url, CREDENCE_MASTER_KEY: '07'.repeat(32) };
    whole = await startInstance({ env: shared });
    rpc = await startLaggingRpc(whole.info.rpc_url);
    const relayerKey = await readFile(join(whole.dataDirectory, 'relayer.key'), 'utf8');
    // A process that takes calls, of which the one with the workers hears nothing.
    front = await startInstance({
      env: {
        ...shared,
        CREDENCE_ROLES: 'control,gateway',
        CREDENCE_SANDBOX_RPC_URL: rpc.url,
        CREDENCE_SANDBOX_RELAYER_KEY: `0x${relayerKey.trim()}`,
      },
    });
    upstream = await startUpstream((_request, response) => void response.end('work'));
  }, 90_000);
  afterEach(() => rpc.lag(undefined));
  afterAll(async () => {
    rpc?.close();
    await upstream?.close();
    await front?.stop();
    await whole?.stop();
  }, 60_000);

  it.each([
    ['this process', () => front],
    ['another process', () => whole],
  ])('gets no second run after the first was settled by %s', async (name, first) => {
    const slug = `lagging-${name.slice(0, 4)}`;
    const sold = await sell(whole, upstream.url, slug, { settlement: 'optimistic' });
    upstream.requests.length = 0;
    const payer = await newPayer(whole, price);
    const urlOf = (instance: Instance) => `${instance.info.gateway_url}/api/${slug}/paid`;
    const terms = await askTerms(urlOf(whole));
    const paid = await sendPaid(urlOf(first()), await payer.pay(terms));
    expect(paid.status).toBe(200);
    const chain = openChain(whole);
    await expect.poll(() => chain.balanceOf(sold.payTo), { timeout: 20_000 }).toBe(price);
    const query = "SELECT 1 FROM payments WHERE pay_to = $1 AND state = 'settled'";
    await expect.poll(() => database.db.query(query, [sold.payTo])).toHaveLength(1);

    rpc.lag({ block: (await chain.client.getBlockNumber()) - 1n, isAhead: () => false });
    // What was seen of the chain is forgotten after a second.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const again = await sendPaid(urlOf(front), await payer.pay(terms));
    expect([again.status, again.json().code]).toEqual([402, 'insufficient_funds']);
    expect(upstream.requests).toHaveLength(1);
  });
});
