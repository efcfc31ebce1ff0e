import { setImmediate } from 'node:timers/promises';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { fundAccount } from '../src/embedded/index.ts';
import { limits } from '../src/kernel/limits.ts';
import {
  type Chain,
  createSettler,
  findStoredResponse,
  type Payment,
  type Settler,
  type StoredResponse,
} from '../src/x402/index.ts';
import { claim, contextOf, newOrder, price, report, storedAnswer } from './crash/payment-parts.ts';
import { answer, type Answered, type Ground, openGround } from './helpers/settlement.ts';

let ground: Ground;
beforeAll(async () => {
  ground = await openGround();
});

const context = () => contextOf(ground.database.db);
const open = (chain: Chain = ground.chain): Settler => createSettler({ context: context(), chain, report });

/** A payment whose attempt has just begun. */
async function forward(funds = price): Promise<Answered> {
  const scene = await newOrder();
  if (funds > 0n)
    await fundAccount(ground.local.rpcUrl, { address: scene.payer.address, tokenAtomic: funds });
  return { ...scene, payment: await claim(context(), scene) };
}

/** Asks a chain that says what gas costs once it is released. */
function openSlow() {
  const released = Promise.withResolvers<void>();
  const fees = () => released.promise.then(() => ground.chain.fees());
  return { released, settler: open({ ...ground.chain, fees }) };
}

function storeAndSettle(by: Settler, { payment }: Answered, response: StoredResponse = storedAnswer) {
  return by.storeAndSettle(payment, response, performance.now());
}

/** What the row says, the answer that is kept, and how many transactions have the payment. */
async function describeRow({ payment }: Answered): Promise<[string, string | undefined, number]> {
  const { db } = ground.database;
  const [row] = await db.query<Pick<Payment, 'state'> & { items: number }>(
    `SELECT state, (SELECT count(*)::int FROM settlement_items WHERE payment_id = id) AS items
     FROM payments WHERE id = $1`,
    [payment.id],
  );
  const stored = await findStoredResponse(context(), payment);
  return [row?.state ?? '', stored?.body.toString(), row?.items ?? 0];
}

const kept = storedAnswer.body.toString();

describe('an answer that isn’t stored yet', () => {
  it('is, with the transaction that settles it', async () => {
    const one = await forward();
    expect(await storeAndSettle(open(), one)).toMatchObject({ kind: 'settled' });
    expect(await describeRow(one)).toEqual(['settled', kept, 1]);
  });

  it('goes with others in one transaction, and is told to whoever else asks for it', async () => {
    const settler = open();
    const [one, other] = [await forward(), await forward()];
    const settlements = await Promise.all([
      storeAndSettle(settler, one),
      storeAndSettle(settler, other),
      settler.settle(one.payment),
    ]);
    expect(settlements).toEqual(Array.from({ length: 3 }, () => settlements[0]));
    expect(settlements[0]).toMatchObject({ kind: 'settled' });
  });

  it('is stored before the others of its batch are looked at, where those weren’t just verified', async () => {
    const settler = open();
    const [one, stored] = [await forward(), await answer(ground)];
    const settlements = await Promise.all([storeAndSettle(settler, one), settler.settle(stored.payment)]);
    expect(settlements).toEqual([settlements[1], settlements[1]]);
    expect(await describeRow(one)).toEqual(['settled', kept, 1]);
  });

  it('is withheld and kept where the payer can’t pay for it any more', async () => {
    const spent = await forward(0n);
    const failed = { kind: 'failed', reason: 'insufficient_funds' };
    expect(await storeAndSettle(open(), spent)).toEqual(failed);
    expect(await describeRow(spent)).toEqual(['settlement_failed', kept, 1]);
  });

  it('is another’s where its attempt was given up, and keeps none of its batch', async () => {
    const settler = open();
    const [lost, other] = [await forward(), await forward()];
    await ground.database.db.query('UPDATE payments SET attempt = attempt + 1 WHERE id = $1', [
      lost.payment.id,
    ]);
    const [taken, asked, settled] = await Promise.all([
      storeAndSettle(settler, lost),
      settler.settle(lost.payment),
      storeAndSettle(settler, other),
    ]);
    expect([taken?.kind, asked.kind, settled?.kind]).toEqual(['taken_over', 'pending', 'settled']);
    expect(await describeRow(lost)).toEqual(['forwarding', undefined, 0]);
    expect(await describeRow(other)).toEqual(['settled', kept, 1]);
  });

  it('is stored by itself where nobody can sign a transaction, and taken up later', async () => {
    const { db } = ground.database;
    const one = await forward();
    await db.query('UPDATE relayers SET active = false');
    expect(await storeAndSettle(open(), one)).toEqual({ kind: 'pending' });
    await db.query('UPDATE relayers SET active = true');
    expect(await describeRow(one)).toEqual(['responded', kept, 0]);
    expect(await open().settle({ ...one.payment, state: 'responded' })).toMatchObject({ kind: 'settled' });
  });

  it('fails its call where it can’t be stored, and costs nothing', async () => {
    const { db } = ground.database;
    const one = await forward();
    await db.query(
      `ALTER TABLE stored_responses ADD CONSTRAINT refused CHECK (payment_id <> '${one.payment.id}')`,
    );
    const settler = open();
    const refused = storeAndSettle(settler, one);
    const asked = settler.settle(one.payment);
    await expect(refused).rejects.toThrow(/refused/);
    expect(await asked).toEqual({ kind: 'pending' });
    await db.query('ALTER TABLE stored_responses DROP CONSTRAINT refused');
    expect(await describeRow(one)).toEqual(['forwarding', undefined, 0]);
  });

  it('that can’t be stored keeps none of its batch from being', async () => {
    const { db } = ground.database;
    const [refused, other] = [await forward(), await forward()];
    await db.query(
      `ALTER TABLE stored_responses ADD CONSTRAINT refused CHECK (payment_id <> '${refused.payment.id}')`,
    );
    const settler = open();
    const settlements = await Promise.allSettled([
      storeAndSettle(settler, refused),
      storeAndSettle(settler, other),
    ]);
    await db.query('ALTER TABLE stored_responses DROP CONSTRAINT refused');
    expect(settlements).toMatchObject([
      { status: 'rejected' },
      { status: 'fulfilled', value: { kind: 'pending' } },
    ]);
    expect(await describeRow(other)).toEqual(['responded', kept, 0]);
  });

  it('is stored by itself where another process that stands still has the relayer', async () => {
    const { db } = ground.database;
    const one = await forward();
    const locked = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    const standing = db.transaction(async (sql) => {
      await sql.query('SELECT 1 FROM relayers FOR UPDATE');
      locked.resolve();
      await released.promise;
    });
    await locked.promise;
    try {
      expect(await storeAndSettle(open(), one)).toEqual({ kind: 'pending' });
      expect(await describeRow(one)).toEqual(['responded', kept, 0]);
    } finally {
      released.resolve();
      await standing;
    }
  });

  it('is stored while the chain is slow to say what gas costs, and settled then', async () => {
    const one = await forward();
    const { settler, released } = openSlow();
    const settlement = storeAndSettle(settler, one);
    await expect.poll(() => describeRow(one)).toEqual(['responded', kept, 0]);
    expect(storeAndSettle(settler, await forward()), 'behind it').toBeUndefined();
    released.resolve();
    expect(await settlement).toMatchObject({ kind: 'settled' });
    expect(await describeRow(one)).toEqual(['settled', kept, 1]);
  });

  it('is stored and settled, too, after whoever waits for it was told that this takes longer', async () => {
    const [before, one] = [await forward(), await forward()];
    const { settler, released } = openSlow();
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      void storeAndSettle(settler, before);
      await setImmediate();
      const settlement = storeAndSettle(settler, one);
      vi.advanceTimersByTime(limits.settlementMarginSeconds * 1000);
      expect(await settlement).toEqual({ kind: 'pending' });
    } finally {
      vi.useRealTimers();
      released.resolve();
    }
    await expect.poll(() => describeRow(one)).toEqual(['settled', kept, 1]);
  });
});

describe('an answer is to be stored first', () => {
  const large = { ...storedAnswer, body: Buffer.alloc(65 * 1024) };

  it('where it is large, or nobody has verified its payment', async () => {
    const one = await forward();
    const settler = open();
    expect(storeAndSettle(settler, one, large)).toBeUndefined();
    expect(settler.storeAndSettle(one.payment, storedAnswer, undefined)).toBeUndefined();
  });

  it('where its payment was verified a while ago, so that the chain is asked of it again', async () => {
    const { payment } = await forward();
    expect(open().storeAndSettle(payment, storedAnswer, performance.now() - 1_001)).toBeUndefined();
  });

  it('where the chain is being asked of the batch before: that may take long', async () => {
    const asked = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    const settler = open({
      ...ground.chain,
      examine: async (payments) => {
        asked.resolve();
        await released.promise;
        return ground.chain.examine(payments);
      },
    });
    const [one, before] = [await forward(), await answer(ground)];
    const settlement = settler.settle(before.payment);
    await asked.promise;
    expect(storeAndSettle(settler, one)).toBeUndefined();
    released.resolve();
    expect(await settlement).toMatchObject({ kind: 'settled' });
  });

  it('where payments are tried before they are sent', async () => {
    const one = await forward();
    expect(storeAndSettle(open({ ...ground.chain, boundsGas: false }), one)).toBeUndefined();
    const burnt = open();
    expect(await storeAndSettle(burnt, await forward(0n))).toMatchObject({ kind: 'failed' });
    expect(storeAndSettle(burnt, one), 'after one that was sent in vain').toBeUndefined();
  });

  it('where two batches are on their way: the next waits for long', async () => {
    const settler = open({
      ...ground.chain,
      findReceipt: async (hashes, patienceMs) => {
        await released.promise;
        return ground.chain.findReceipt(hashes, patienceMs);
      },
    });
    const released = Promise.withResolvers<void>();
    const all = [await forward(), await forward(), await forward()];
    const settlements: ReturnType<typeof storeAndSettle>[] = [];
    for (const one of all.slice(0, 2)) {
      settlements.push(storeAndSettle(settler, one));
      await expect.poll(() => describeRow(one)).toEqual(['settling', kept, 1]);
    }
    expect(all.slice(2).map((one) => storeAndSettle(settler, one))).toEqual([undefined]);
    released.resolve();
    for (const settlement of settlements) expect(await settlement).toMatchObject({ kind: 'settled' });
  });
});
