import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LocalChain, startLocalChain } from '../contracts/test/local-chain.ts';
import { fundAccount, plantBatchContract, plantTestToken } from '../src/embedded/index.ts';
import { type Chain, createSettler, ensureRelayer, findClaim, networks } from '../src/x402/index.ts';
import {
  claim,
  contextOf,
  newOrder,
  openChain,
  type Order,
  price,
  relayer,
  relayerKey,
  report,
  storeAnswer,
} from './crash/payment-parts.ts';
import { openTestDatabase, type TestDatabase } from './helpers/database.ts';

let database: TestDatabase;
let local: LocalChain;
let chain: Chain;
beforeAll(async () => {
  [database, local] = await Promise.all([openTestDatabase(), startLocalChain()]);
  chain = openChain(local.rpcUrl);
  await plantTestToken(local.rpcUrl, networks.sandbox.asset.address);
  await plantBatchContract(local.rpcUrl);
  await fundAccount(local.rpcUrl, { address: relayer, wei: 10n ** 20n });
  await ensureRelayer(contextOf(database.db), chain, relayerKey);
});
afterAll(() => local.stop());

async function stateOf({ sent }: Order): Promise<string | undefined> {
  const { authorization, network, asset } = sent;
  const claimed = await findClaim(database.db, {
    network,
    asset,
    payer: authorization.from,
    nonce: authorization.nonce,
  });
  return claimed?.payment.state;
}

describe('what processes have left behind', () => {
  it('is settled on a chain that is there, however much waits for one that is not', async () => {
    // More than one round takes up, and left behind earlier.
    const earlier = contextOf(database.db, -120);
    for (let index = 0; index < 201; index += 1) {
      const order = await newOrder();
      const elsewhere = { ...order, sent: { ...order.sent, network: 'eip155:8453' } };
      await storeAnswer(earlier, await claim(earlier, elsewhere));
    }
    const order = await newOrder();
    await fundAccount(local.rpcUrl, { address: order.payer.address, tokenAtomic: price });
    const later = contextOf(database.db, -60);
    await storeAnswer(later, await claim(later, order));

    await createSettler({ context: contextOf(database.db), chain, report }).resume();
    expect(await stateOf(order)).toBe('settled');
  }, 60_000);

  it('is reopened, and swept, while the chain is away', async () => {
    const order = await newOrder();
    await claim(contextOf(database.db, -120), order);
    const old = await newOrder();
    const dayAgo = contextOf(database.db, -25 * 60 * 60);
    const stored = await claim(dayAgo, old);
    await storeAnswer(dayAgo, stored);

    const away = openChain('http://127.0.0.1:9');
    const settler = createSettler({ context: contextOf(database.db), chain: away, report: () => undefined });
    await expect(settler.resume()).rejects.toThrow('the RPC gave no answer');
    expect(await stateOf(order)).toBe('open');
    const query = 'SELECT sealed FROM stored_responses WHERE payment_id = $1';
    expect(await database.db.query(query, [stored.id])).toEqual([{ sealed: null }]);
  });
});
