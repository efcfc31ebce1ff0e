import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { newAccount } from '../contracts/test/signatures.ts';
import { fundAccount } from '../src/embedded/index.ts';
import { newId } from '../src/kernel/ids.ts';
import { type Chain, createSettler, exactRail, type Settlement, type Settler } from '../src/x402/index.ts';
import { contextOf, price, report } from './crash/payment-parts.ts';
import { answer, type Answered, type Ground, openGround, transferOutside } from './helpers/settlement.ts';

let ground: Ground;
let chain: Chain;
let settler: Settler;
beforeAll(async () => {
  ground = await openGround();
  ({ chain } = ground);
  settler = createSettler({ context: contextOf(ground.database.db), chain, report });
});

async function isSuspended({ payment }: Answered): Promise<boolean> {
  const query = 'SELECT 1 FROM payers WHERE payer = $1 AND suspended_until > now()';
  return (await ground.database.db.query(query, [payment.payer])).length > 0;
}

async function wasSent({ payment }: Answered): Promise<boolean> {
  const query = 'SELECT 1 FROM settlement_items WHERE payment_id = $1';
  return (await ground.database.db.query(query, [payment.id])).length > 0;
}

/** As a call has it that pays with this. */
function openRail({ sent, payee }: Answered, by: Settler) {
  const terms = { network: chain.network, amount: price, payTo: payee, maxTimeoutSeconds: 60 };
  return exactRail({ sent, terms, chain, settler: by });
}

describe('payments that the chain has just called good', () => {
  it('are sent without being tried; after the first that fails all are tried', async () => {
    const own = createSettler({ context: contextOf(ground.database.db), chain, report });
    const settleGood = (answered: readonly Answered[]) =>
      Promise.all(answered.map(({ payment }) => own.settle(payment, performance.now())));
    const [good, spent, next] = [await answer(ground), await answer(ground, 0n), await answer(ground, 0n)];
    const refused = { kind: 'failed', reason: 'insufficient_funds' };
    expect(await settleGood([good, spent])).toMatchObject([{ kind: 'settled' }, refused]);
    expect(await isSuspended(spent)).toBe(true);
    expect(await settleGood([next])).toEqual([refused]);
    expect([await wasSent(spent), await wasSent(next)]).toEqual([true, false]);
  });

  it('are tried after one that somebody else had settled meanwhile, too: what we sent for it was in vain', async () => {
    const own = createSettler({ context: contextOf(ground.database.db), chain, report });
    const [taken, spent] = [await answer(ground), await answer(ground, 0n)];
    const stranger = newAccount();
    await fundAccount(ground.local.rpcUrl, { address: stranger.address, wei: 10n ** 18n });
    const transaction = await transferOutside(ground, taken, stranger);
    expect(await own.settle(taken.payment, performance.now())).toEqual({ kind: 'settled', transaction });
    expect(await own.settle(spent.payment, performance.now())).toMatchObject({ kind: 'failed' });
    expect([await wasSent(taken), await wasSent(spent)]).toEqual([true, false]);
  });

  it.each([
    ['are those that their own call has verified', null, 0],
    ['are not those that give such a payment back', newId('payment'), 1],
  ])('%s', async (_which, refundOf, tried) => {
    let examined = 0;
    const watched: Chain = {
      ...chain,
      examine(payments) {
        examined += payments.length;
        return chain.examine(payments);
      },
    };
    const own = createSettler({ context: contextOf(ground.database.db), chain: watched, report });
    const scene = await answer(ground);
    const rail = openRail(scene, own);
    expect(await rail.findFunds(new Date())).toMatchObject({ atomic: price });
    expect(await rail.settle({ ...scene.payment, refundOf })).toMatchObject({ kind: 'settled' });
    expect(examined).toBe(tried);
  });

  it.each([
    ['where that was a while ago', () => chain, 1_001],
    ['where nothing bounds the gas of one that fails', () => ({ ...chain, boundsGas: false }), 0],
  ])('are tried all the same %s', async (_where, openChain, agoMs) => {
    const context = contextOf(ground.database.db);
    const own = createSettler({ context, chain: openChain(), report });
    const spent = await answer(ground, 0n);
    expect(await own.settle(spent.payment, performance.now() - agoMs)).toMatchObject({ kind: 'failed' });
    expect(await wasSent(spent)).toBe(false);
  });
});

/** Whether what comes a little later goes in another transaction: nothing was waited for. */
async function expectApart(settlement: Promise<Settlement>, { payment }: Answered): Promise<void> {
  await sleep(2);
  const [one, other] = await Promise.all([settlement, settler.settle(payment)]);
  expect([one.kind, other.kind]).toEqual(['settled', 'settled']);
  expect(other).not.toEqual(one);
}

describe('a payment that could go', () => {
  it('waits a moment for those that are about to come, and goes with them', async () => {
    const [first, second] = [await answer(ground), await answer(ground)];
    const arrived = settler.expect();
    const settlements = [first, second].map(async (one, index) => {
      if (index === 1) await sleep(2);
      if (index === 1) arrived();
      return settler.settle(one.payment);
    });
    const [one, other] = await Promise.all(settlements);
    expect(one).toMatchObject({ kind: 'settled' });
    expect(other).toEqual(one);
  });

  it('waits longer for any others where its answer is out already, and goes with the first that somebody waits for', async () => {
    const [first, second, third] = [await answer(ground), await answer(ground), await answer(ground)];
    const settleBehind = ({ payment }: Answered) => settler.settle({ ...payment, mode: 'optimistic' });
    const one = settleBehind(first);
    await sleep(40);
    const other = settleBehind(second);
    await sleep(40);
    const awaited = await settler.settle(third.payment);
    expect(awaited).toMatchObject({ kind: 'settled' });
    expect(await Promise.all([one, other])).toEqual([awaited, awaited]);
  });

  it('goes without those that do not come', async () => {
    const arrived = settler.expect();
    const { payment } = await answer(ground);
    expect(await settler.settle(payment)).toMatchObject({ kind: 'settled' });
    arrived();
  });

  it('does not wait for one whose upstream takes long', async () => {
    const [first, second] = [await answer(ground), await answer(ground)];
    const arrived = settler.expect();
    await sleep(300);
    await expectApart(settler.settle(first.payment), second);
    arrived();
  });

  it('does not wait for itself', async () => {
    const [first, second] = [await answer(ground), await answer(ground)];
    const rail = openRail(first, settler);
    const arrived = rail.expect();
    await expectApart(rail.settle(first.payment), second);
    arrived();
  });
});
