import { beforeAll, describe, expect, it } from 'vitest';
import { addSeconds } from '../src/kernel/clock.ts';
import {
  createPaymentLane,
  exactFacts,
  findClaim,
  findStoredResponse,
  type NewClaim,
  type Payment,
} from '../src/x402/index.ts';
import {
  contextOf,
  newOrder,
  openLane,
  type Order,
  presenter,
  price,
  fingerprint,
  storedAnswer,
} from './crash/payment-parts.ts';
import { suspendPayers } from '../src/x402/claims/payers.sql.ts';
import { attemptLeaseSeconds } from '../src/x402/claims/stored-response.ts';
import { openTestDatabase, type TestDatabase } from './helpers/database.ts';
import { letPass } from './helpers/settlement.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
});

/** As two processes have it: each its own lane over the one database. */
const openLanes = () => {
  const context = contextOf(database.db);
  return { context, lanes: [openLane(context), openLane(context)] as const };
};
const claimOf = ({ sent, target }: Order, balance: bigint) => ({
  facts: exactFacts(sent),
  presenter,
  fingerprint,
  target,
  mode: 'after_success' as const,
  hosted: false,
  balance: { atomic: balance, readAt: new Date() },
});

/** In one batch, in this order: they queue behind another's. */
async function claimTogether(claims: readonly NewClaim[]) {
  const { context, lanes } = openLanes();
  const before = lanes[0].claim(claimOf(await newOrder(), price), context);
  const results = await Promise.all(claims.map((claim) => lanes[0].claim(claim, context)));
  await before;
  return results.map((result) => (result.kind === 'refused' ? result.reason : result.kind));
}
const viaFacilitator = (order: Order, perDay: number) => ({
  ...claimOf(order, price),
  target: { ...order.target, serverId: null, endpointId: null },
  fingerprint: Buffer.alloc(32, 2),
  mode: 'upfront' as const,
  perDay,
});

describe('claims that are made at the same moment, by several processes', () => {
  it('on one payment give it to one, though the balance is its price exactly, and tell the others of it', async () => {
    const { context, lanes } = openLanes();
    const order = await newOrder();
    const claims = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        lanes[index % 2 === 0 ? 0 : 1].claim(claimOf(order, price), context),
      ),
    );
    const [claimed, ...more] = claims.filter((claim) => claim.kind === 'claimed');
    expect(more).toEqual([]);
    const known = claims.filter((claim) => claim.kind === 'known');
    expect(known).toHaveLength(39);
    for (const claim of known) expect(claim.claim.payment.id).toBe(claimed?.payment.id);
  });

  it('on one payment that its payer cannot cover refuse every one of them', async () => {
    const { context, lanes } = openLanes();
    const order = await newOrder();
    const claims = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        lanes[index % 2 === 0 ? 0 : 1].claim(claimOf(order, price - 1n), context),
      ),
    );
    expect(claims).toEqual(claims.map(() => ({ kind: 'refused', reason: 'insufficient_funds' })));
  });

  it('on one payer’s money let in as many as it covers', async () => {
    const { context, lanes } = openLanes();
    const first = await newOrder();
    const facts = exactFacts(first.sent);
    const orders = Array.from({ length: 100 }, (_, index) => ({
      ...claimOf(first, 10n * price),
      facts: { ...facts, nonce: `0x${(index + 1).toString(16).padStart(64, '0')}` },
    }));
    const claims = await Promise.all(
      orders.map((order, index) => lanes[index % 2 === 0 ? 0 : 1].claim(order, context)),
    );
    expect(claims.filter((claim) => claim.kind === 'claimed')).toHaveLength(10);
    expect(claims.filter((claim) => claim.kind === 'refused')).toHaveLength(90);
  });

  describe('with one authorisation for different things share no refusal', () => {
    it('a quota that is used up is the facilitator’s, and not the gateway’s', async () => {
      const order = await newOrder();
      expect(await claimTogether([viaFacilitator(order, 0), claimOf(order, price)])).toEqual([
        'quota_exceeded',
        'claimed',
      ]);
    });

    it('a suspended payer is refused what is settled late, and not what is settled first', async () => {
      const order = await newOrder();
      await suspendPayers(database.db, [exactFacts(order.sent)], addSeconds(new Date(), 60));
      expect(await claimTogether([claimOf(order, price), viaFacilitator(order, 1)])).toEqual([
        'payer_suspended',
        'claimed',
      ]);
    });

    it('an amount that is too much is so for whoever sent it', async () => {
      const order = await newOrder();
      const low = claimOf(order, price);
      const high = { ...low, facts: { ...low.facts, amount: 2n * price, signature: '0x02' } };
      expect(await claimTogether([high, high, low, low])).toEqual([
        'insufficient_funds',
        'insufficient_funds',
        'claimed',
        'known',
      ]);
    });
  });

  it('are refused alone where one cannot be stored', async () => {
    const { context, lanes } = openLanes();
    const [good, bad] = [await newOrder(), await newOrder()];
    const unstorable = { ...claimOf(bad, price), presenter: { ...presenter, agentId: 'a\u0000b' } };
    const [first, second] = await Promise.allSettled([
      lanes[0].claim(unstorable, context),
      lanes[0].claim(claimOf(good, price), context),
    ]);
    expect(first.status).toBe('rejected');
    expect(second).toMatchObject({ status: 'fulfilled', value: { kind: 'claimed' } });
    expect(await findClaim(database.db, exactFacts(bad.sent))).toBeUndefined();
  });
});

describe('what is owed by payments that are answered before they are settled', () => {
  it('is capped on each network by itself: test money leaves no less room for real money', async () => {
    const context = contextOf(database.db);
    const owedMax = { inAll: 2n * price, byServer: 2n * price, byPayer: 2n * price };
    const modes = [];
    for (const network of ['eip155:84532', 'eip155:84532', 'eip155:84532', 'eip155:8453', 'eip155:8453']) {
      const claim = claimOf(await newOrder(), price);
      const claimed = await createPaymentLane({ ...context, owedMax }).claim(
        { ...claim, mode: 'optimistic', facts: { ...claim.facts, network } },
        context,
      );
      modes.push(claimed.kind === 'claimed' && claimed.payment.mode);
    }
    expect(modes).toEqual(['optimistic', 'optimistic', 'after_success', 'optimistic', 'optimistic']);
  });
});

describe('a claim that has waited for others', () => {
  it('has the whole time of an attempt from when it is written', async () => {
    const context = contextOf(database.db);
    let looks = 0;
    // Ten seconds go by between any two looks at the clock.
    const clock = { now: () => addSeconds(new Date(0), (looks += 1) * 10) };
    const claim = await openLane({ ...context, clock }).claim(claimOf(await newOrder(), price), context);
    if (claim.kind !== 'claimed') throw new Error('not claimed');
    const [row] = await database.db.query<{ seconds: number }>(
      'SELECT extract(epoch FROM lease_until - updated_at)::int AS seconds FROM payments WHERE id = $1',
      [claim.payment.id],
    );
    expect(row).toEqual({ seconds: attemptLeaseSeconds });
  });
});

async function claimOne(): Promise<Payment> {
  const { context, lanes } = openLanes();
  const claim = await lanes[0].claim(claimOf(await newOrder(), price), context);
  if (claim.kind !== 'claimed') throw new Error('not claimed');
  return claim.payment;
}

describe('the attempts of a claimed payment', () => {
  const balance = { atomic: price, readAt: new Date() };

  it('are one at a time: of several that retry, one has it', async () => {
    const { context, lanes } = openLanes();
    const payment = await claimOne();
    expect(await lanes[0].retry(payment, balance, context), 'while the first is running').toBeUndefined();
    expect(await lanes[0].end(payment, { kind: 'failed', failure: 'reset' }, context)).toBe(true);
    const retries = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        lanes[index % 2 === 0 ? 0 : 1].retry(payment, balance, context),
      ),
    );
    const taken = retries.filter((retry) => retry !== undefined);
    expect(taken).toMatchObject([{ state: 'forwarding', attempt: 2, failure: null }]);
  });

  it('are fenced: one that slept through its lease ends nothing, and stores nothing', async () => {
    const { context, lanes } = openLanes();
    const payment = await claimOne();
    await letPass(database.db, 60);
    const taken = (await lanes[1].retry(payment, balance, context)) as Payment;
    expect(taken).toMatchObject({ attempt: 2 });
    const answer = { kind: 'responded', response: storedAnswer } as const;
    expect(await lanes[0].end(payment, answer, context)).toBe(false);
    expect(await findStoredResponse(context, payment)).toBeUndefined();
    expect(await lanes[1].end(taken, answer, context)).toBe(true);
    expect(await findStoredResponse(context, payment)).toEqual(storedAnswer);
  });

  it('write one audit event for each that failed, and none for a step on the way', async () => {
    const { context, lanes } = openLanes();
    const payment = await claimOne();
    await Promise.all([1, 2].map(() => lanes[0].end(payment, { kind: 'failed', failure: 'reset' }, context)));
    const events = await database.db.query('SELECT action, data FROM audit_events WHERE resource = $1', [
      payment.id,
    ]);
    expect(events).toEqual([{ action: 'payment.upstream_failed', data: { failure: 'reset' } }]);
  });
});
