import { afterAll, beforeAll, expect, it } from 'vitest';
import batch from '../contracts/Batch.json' with { type: 'json' };
import { connect, type LocalChain, startLocalChain } from '../contracts/test/local-chain.ts';
import { fundAccount, plantTestToken } from '../src/embedded/index.ts';
import { createChain, createSettler, ensureRelayer, networks } from '../src/x402/index.ts';
import {
  claim,
  contextOf,
  newOrder,
  price,
  relayer,
  relayerKey,
  report,
  storeAnswer,
} from './crash/payment-parts.ts';
import { openTestDatabase, type TestDatabase } from './helpers/database.ts';

let database: TestDatabase;
let local: LocalChain;
beforeAll(async () => {
  [database, local] = await Promise.all([openTestDatabase(), startLocalChain()]);
  await plantTestToken(local.rpcUrl, networks.sandbox.asset.address);
  await fundAccount(local.rpcUrl, { address: relayer, wei: 10n ** 20n });
});
afterAll(() => local?.stop());

it('payments are settled by the contract that an operator has deployed, where the settings name it', async () => {
  const client = connect(local.rpcUrl);
  const [operator] = await client.getAddresses();
  if (!operator) throw new Error('anvil has no account');
  const deployed = await client.sendTransaction({ account: operator, data: batch.bytecode as `0x${string}` });
  const { contractAddress } = await client.waitForTransactionReceipt({ hash: deployed });
  if (!contractAddress) throw new Error('nothing was deployed');
  expect(await client.getCode({ address: contractAddress })).toBe(batch.deployedBytecode);

  const chain = createChain({
    network: networks.sandbox,
    rpcUrl: local.rpcUrl,
    finality: 'instant',
    batchContract: contractAddress,
  });
  const context = contextOf(database.db);
  await ensureRelayer(context, chain, relayerKey);
  const order = await newOrder();
  await fundAccount(local.rpcUrl, { address: order.payer.address, tokenAtomic: price });
  expect(await chain.payerState(order.payer.address, order.sent.authorization.nonce)).toMatchObject({
    balance: price,
  });
  const payment = await claim(context, order);
  await storeAnswer(context, payment);
  const settlement = await createSettler({ context, chain, report }).settle(payment);
  if (settlement.kind !== 'settled') throw new Error(settlement.kind);
  const hash = settlement.transaction as `0x${string}`;
  expect((await client.getTransaction({ hash })).to).toBe(contractAddress);
  expect(await chain.balanceOf(order.payee)).toBe(price);
});
