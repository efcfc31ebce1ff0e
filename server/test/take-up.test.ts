import { beforeAll, describe, expect, it } from 'vitest';
import { createSettler } from '../src/x402/index.ts';
import {
  claim,
  contextOf,
  newOrder,
  openChain,
  type Order,
  report,
  storeAnswer,
} from './crash/payment-parts.ts';
import { answer, type Ground, letPass, openGround, paymentOf } from './helpers/settlement.ts';
import type { WriteContext } from '../src/db/index.ts';

let ground: Ground;
let context: WriteContext;
beforeAll(async () => {
  ground = await openGround();
  context = contextOf(ground.database.db);
});

const stateOf = async (order: Order) => (await paymentOf(ground.database.db, order)).state;

describe('what processes have left behind', () => {
  it('is settled on a chain that is there, however much waits for one that is not', async () => {
    // More than one round takes up, and left behind earlier.
    for (let index = 0; index < 201; index += 1) {
      const order = await newOrder();
      const elsewhere = { ...order, sent: { ...order.sent, network: 'eip155:8453' } };
      await storeAnswer(context, await claim(context, elsewhere));
    }
    await letPass(context.db, 60);
    const order = await answer(ground);
    await letPass(context.db, 60);

    await createSettler({ context, chain: ground.chain, report }).resume();
    expect(await stateOf(order)).toBe('settled');
  }, 60_000);

  it('is reopened, and swept, while the chain is away', async () => {
    const order = await newOrder();
    await claim(context, order);
    await letPass(context.db, 120);
    const old = await newOrder();
    const dayAgo = contextOf(context.db, -25 * 60 * 60);
    const stored = await claim(dayAgo, old);
    await storeAnswer(dayAgo, stored);

    const away = openChain('http://127.0.0.1:9');
    const settler = createSettler({ context, chain: away, report: () => undefined });
    await expect(settler.resume()).rejects.toThrow('the RPC gave no answer');
    expect(await stateOf(order)).toBe('open');
    const query = 'SELECT sealed FROM stored_responses WHERE payment_id = $1';
    expect(await context.db.query(query, [stored.id])).toEqual([{ sealed: null }]);
  });
});
