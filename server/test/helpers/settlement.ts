import type { Address, Hex, PrivateKeyAccount } from 'viem';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { connect, type LocalChain, startLocalChain } from '../../contracts/test/local-chain.ts';
import type { Database, WriteContext } from '../../src/db/index.ts';
import { fundAccount, plantBatchContract, plantTestToken } from '../../src/embedded/index.ts';
import {
  type Chain,
  createSettler,
  ensureRelayer,
  exactFacts,
  findClaim,
  networks,
  type Payment,
  type PaymentTarget,
  type Settler,
  transferTypedData,
} from '../../src/x402/index.ts';
import { transferCall } from '../../src/x402/chain/token-calls.ts';
import {
  claim,
  contextOf,
  fingerprint,
  newOrder,
  openChain,
  openLane,
  presenter,
  price,
  relayer,
  relayerKey,
  report,
  storeAnswer,
} from '../crash/payment-parts.ts';
import { openTestDatabase, type TestDatabase } from './database.ts';

/** What settling stands on: a database, and a chain with the token, the batch contract and a relayer that has gas. */
export interface Ground {
  database: TestDatabase;
  local: LocalChain;
  chain: Chain;
}

const started: LocalChain[] = [];
afterAll(async () => {
  for (const local of started.splice(0)) await local.stop();
});

/** Opens it; it is ended after the test file. */
export async function openGround(): Promise<Ground> {
  const database = await openTestDatabase();
  return { database, ...(await openGroundChain(database.db)) };
}

/** One database for the test file, and for each test a chain of its own: what one has undone would be undone for the next. */
export function groundForEachTest(): Ground {
  const ground = {} as Ground;
  beforeAll(async () => {
    ground.database = await openTestDatabase();
  });
  beforeEach(async () => {
    Object.assign(ground, await openGroundChain(ground.database.db));
  });
  return ground;
}

/** What a process finds that looks so much later. */
export async function resumeLater({ database: { db }, chain }: Ground, seconds: number): Promise<void> {
  await letPass(db, seconds);
  await createSettler({ context: contextOf(db, seconds), chain, report }).resume();
}

/** A chain of its own for a database, whose earlier chain is forgotten with all that was sent to it. */
async function openGroundChain(db: Database): Promise<Omit<Ground, 'database'>> {
  const local = await startLocalChain();
  started.push(local);
  const chain = openChain(local.rpcUrl);
  await plantTestToken(local.rpcUrl, networks.sandbox.asset.address);
  await plantBatchContract(local.rpcUrl);
  await fundAccount(local.rpcUrl, { address: relayer, wei: 10n ** 20n });
  await db.query('TRUNCATE relayers, settlement_items, settlement_transactions, outside_settlements');
  await ensureRelayer(contextOf(db), chain, relayerKey);
  return { local, chain };
}

export type Scene = Awaited<ReturnType<typeof newOrder>>;
export type Answered = Scene & { payment: Payment };

/** A payment whose answer is stored, and whose payer has this much. */
export async function answer(
  ground: Ground,
  funds = price,
  context = contextOf(ground.database.db),
): Promise<Answered> {
  const scene = await newOrder();
  if (funds > 0n)
    await fundAccount(ground.local.rpcUrl, { address: scene.payer.address, tokenAtomic: funds });
  const payment = await claim(context, scene);
  await storeAnswer(context, payment);
  return { ...scene, payment };
}

/** Has a stranger, who has gas, send an answered payment before we do; gives the transaction, when it is mined. */
export async function transferOutside(
  { local: { rpcUrl } }: Pick<Ground, 'local'>,
  { sent }: Pick<Answered, 'sent'>,
  stranger: PrivateKeyAccount,
): Promise<Hex> {
  const client = connect(rpcUrl);
  const to = networks.sandbox.asset.address;
  const transaction = await client.sendTransaction({ account: stranger, to, data: transferCall(sent) });
  await client.waitForTransactionReceipt({ hash: transaction });
  return transaction;
}

/** The same; gives the transaction when the payment's row has it. */
export async function sendOutside(
  ground: Ground,
  answered: Answered,
  stranger: PrivateKeyAccount,
): Promise<Hex> {
  const transaction = await transferOutside(ground, answered, stranger);
  const settler = createSettler({ context: contextOf(ground.database.db), chain: ground.chain, report });
  expect(await settler.settle(answered.payment)).toEqual({ kind: 'settled', transaction });
  return transaction;
}

/** A payment that is settled before anything else is done for it. */
export async function payUpfront(
  context: WriteContext,
  settler: Settler,
  payer: PrivateKeyAccount,
  to: Address,
  at?: PaymentTarget,
): Promise<Payment> {
  const { sent, target } = await newOrder();
  const signed = await signTransferOf(payer, { ...sent.authorization, from: payer.address, to });
  const claimed = await openLane(context).claim(
    {
      facts: exactFacts({ ...sent, ...signed }),
      presenter,
      fingerprint,
      target: at ?? target,
      mode: 'upfront',
      hosted: true,
      balance: { atomic: price, readAt: new Date() },
    },
    context,
  );
  if (claimed.kind !== 'claimed') throw new Error(claimed.kind);
  expect(await settler.settle(claimed.payment)).toMatchObject({ kind: 'settled' });
  return claimed.payment;
}

/** A transfer of tokens with its owner's signature. */
export async function signTransferOf(
  account: PrivateKeyAccount,
  authorization: Parameters<typeof transferTypedData>[1],
) {
  return {
    authorization,
    signature: await account.signTypedData(transferTypedData(networks.sandbox, authorization)),
  };
}

/** A payment as its row is now. */
export async function paymentOf(db: Database, { sent }: Pick<Scene, 'sent'>): Promise<Payment> {
  const found = await findClaim(db, exactFacts(sent));
  if (!found) throw new Error('the claim is gone');
  return found.payment;
}

/** What was told of a payment, in its order. */
export async function actionsOf(db: Database, scene: Pick<Scene, 'sent'>): Promise<string[]> {
  const { id } = await paymentOf(db, scene);
  const rows = await db.query<{ action: string }>(
    'SELECT action FROM audit_events WHERE resource = $1 ORDER BY id',
    [id],
  );
  return rows.map(({ action }) => action);
}

const earlier = (columns: readonly string[]) =>
  columns.map((column) => `${column} = ${column} - make_interval(secs => $1)`).join(', ');

/** As if so many seconds had gone by in the database, by whose clock leases run. */
export async function letPass(db: Database, seconds: number): Promise<void> {
  await db.query(`UPDATE payments SET ${earlier(['updated_at', 'settled_at', 'lease_until'])}`, [seconds]);
  await db.query(`UPDATE settlement_transactions SET ${earlier(['signed_at', 'lease_until'])}`, [seconds]);
}

/** Puts other blocks in the place of the chain's last ones, without their transactions. */
export async function forgetLast({ local }: Pick<Ground, 'local'>, blocks: number): Promise<void> {
  await connect(local.rpcUrl).request({ method: 'anvil_reorg', params: [blocks, []] } as never);
}
