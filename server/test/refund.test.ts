import { beforeAll, expect, it } from 'vitest';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { fundAccount } from '../src/embedded/index.ts';
import { createOrganisation } from '../src/accounts/index.ts';
import { addSeconds } from '../src/kernel/clock.ts';
import { createSecretBox } from '../src/kernel/crypto.ts';
import { createWallet, refundUndelivered } from '../src/wallet/index.ts';
import {
  createSettler,
  finishDelivery,
  networks,
  type Payment,
  refundAuthorization,
  refundOf,
  takeDelivery,
} from '../src/x402/index.ts';
import { contextOf, newOrder, price, relayer, report } from './crash/payment-parts.ts';
import { type Ground, letPass, openGround, payUpfront, signTransferOf } from './helpers/settlement.ts';

const network = networks.sandbox;
let ground: Ground;
beforeAll(async () => {
  ground = await openGround();
});

/** A process whose time the test lets pass, in the database as well. */
function start() {
  let ahead = 0;
  const context = {
    ...contextOf(ground.database.db),
    clock: { now: () => addSeconds(new Date(), ahead) },
  };
  return {
    context,
    async pass(seconds: number) {
      ahead += seconds;
      await letPass(context.db, seconds);
    },
  };
}

it('a refund that the seller’s wallet cannot pay yet is paid as soon as it can, by whoever looks after it', async () => {
  const { context, pass } = start();
  const { chain } = ground;
  const settler = createSettler({ context, chain, report });

  // Paid upfront to a wallet whose money is gone by the time that the upstream fails.
  const seller = privateKeyToAccount(generatePrivateKey());
  const payer = privateKeyToAccount(generatePrivateKey());
  await fundAccount(ground.local.rpcUrl, { address: payer.address, tokenAtomic: price });
  const payment = await payUpfront(context, settler, payer, seller.address);
  await payUpfront(context, settler, seller, relayer);

  const taken = await takeDelivery(context, payment);
  if (!taken) throw new Error('the delivery was taken');
  const back = await signTransferOf(seller, refundAuthorization(taken, context.clock.now()));
  const refund = refundOf(taken, back.authorization, back.signature, context.clock.now());
  expect(await finishDelivery(context, taken, { kind: 'failed', failure: 'reset', refund })).toBe(true);
  const settling = settler.settle(refund);
  await expect.poll(() => wasLookedAt(refund), { timeout: 10_000 }).toBe(true);
  await pass(31);
  expect(await settling).toEqual({ kind: 'pending' });
  expect(await chain.balanceOf(payer.address)).toBe(0n);

  await fundAccount(ground.local.rpcUrl, { address: seller.address, tokenAtomic: price });
  await pass(10);
  await settler.resume();
  expect(await chain.balanceOf(payer.address)).toBe(price);
  expect(await chain.balanceOf(seller.address)).toBe(0n);
}, 60_000);

it('a wallet that cannot be opened keeps no other from giving back what it was paid for nothing', async () => {
  const { context, pass } = start();
  const { chain } = ground;
  const settler = createSettler({ context, chain, report });
  const payers = [];
  for (const readable of [false, true]) {
    const { target } = await newOrder();
    const { id: environmentId } = await createOrganisation(context, 'Seller');
    // One that isn't readable was sealed under another master key.
    const box = readable ? context.box : createSecretBox(Buffer.alloc(32, 9));
    const wallet = await createWallet({ ...context, box }, environmentId, network);
    const payer = privateKeyToAccount(generatePrivateKey());
    await fundAccount(ground.local.rpcUrl, { address: payer.address, tokenAtomic: price });
    await payUpfront(context, settler, payer, wallet.address, { ...target, environmentId });
    payers.push(payer);
  }
  await pass(11 * 60);
  await expect(refundUndelivered(context)).rejects.toThrow('unable to authenticate');
  await pass(10);
  await settler.resume();
  expect(await Promise.all(payers.map(({ address }) => chain.balanceOf(address)))).toEqual([0n, price]);
}, 60_000);

async function wasLookedAt({ id }: Payment): Promise<boolean> {
  const [row] = await ground.database.db.query<{ looked: boolean }>(
    'SELECT updated_at > created_at AS looked FROM payments WHERE id = $1',
    [id],
  );
  return row?.looked ?? false;
}
