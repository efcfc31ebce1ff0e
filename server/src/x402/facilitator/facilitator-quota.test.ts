import { expect, it } from 'vitest';
import { newId } from '../../kernel/ids.ts';
import { contextOf, newOrder, openLane } from '../../../test/crash/payment-parts.ts';
import { openTestDatabase } from '../../../test/helpers/database.ts';
import { exactFacts } from '../payments/payment.ts';
import type { NewClaim } from '../claims/lane-jobs.ts';

const presenter = { agentId: 'key', agentVerified: false, clientAddress: '', termsSecret: null };

async function newClaim(
  environmentId: NewClaim['target']['environmentId'],
  perDay: number,
): Promise<NewClaim> {
  const { sent } = await newOrder();
  return {
    facts: exactFacts(sent),
    presenter,
    fingerprint: Buffer.alloc(32, 1),
    target: { environmentId, serverId: null, endpointId: null },
    mode: 'upfront',
    hosted: false,
    balance: { atomic: 10n ** 12n, readAt: new Date() },
    perDay,
  };
}

async function openLanes(count: number) {
  const { db } = await openTestDatabase();
  const context = contextOf(db);
  const lanes = Array.from({ length: count }, () => openLane(context));
  return {
    db,
    /** Claims by one of the lanes; gives what came of it, in a word. */
    async present(claim: NewClaim, at: number): Promise<string> {
      const lane = lanes[at % lanes.length];
      if (!lane) throw new Error('there are lanes');
      const result = await lane.claim(claim, context);
      return result.kind === 'refused' ? result.reason : result.kind;
    },
    usage: () => db.query('SELECT settlements FROM facilitator_usage ORDER BY day'),
  };
}

const count = (kinds: readonly string[], kind: string) => kinds.filter((one) => one === kind).length;

it('a quota is exact when many processes claim at once', async () => {
  const { db, present, usage } = await openLanes(8);
  const environmentId = newId('environment');
  // The row is there by then, and each lane's connection: making them would keep the claims apart.
  await Promise.all(Array.from({ length: 8 }, () => db.query('SELECT pg_sleep(0.1)')));
  expect(await present(await newClaim(environmentId, 30), 0)).toBe('claimed');
  const claims = await Promise.all(Array.from({ length: 64 }, () => newClaim(environmentId, 30)));
  const kinds = await Promise.all(claims.map(present));
  expect([count(kinds, 'claimed'), count(kinds, 'quota_exceeded')]).toEqual([29, 35]);
  expect(await usage()).toEqual([{ settlements: 30 }]);
});

it('counts an authorisation once, however often it comes, and begins anew at midnight UTC', async () => {
  const { db, present, usage } = await openLanes(3);
  const environmentId = newId('environment');
  const claims = await Promise.all(Array.from({ length: 12 }, () => newClaim(environmentId, 5)));
  // Each comes three times: twice in one batch of a lane, and in another's.
  const kinds = await Promise.all(
    claims.flatMap((claim, index) => [index, index, index + 1].map((at) => present(claim, at))),
  );
  expect(count(kinds, 'claimed')).toBe(5);
  expect(count(kinds, 'known')).toBe(10);
  expect(count(kinds, 'quota_exceeded')).toBe(21);
  expect(await usage()).toEqual([{ settlements: 5 }]);

  const context = contextOf(db, 24 * 60 * 60);
  const tomorrow = openLane(context);
  expect(await tomorrow.claim(await newClaim(environmentId, 5), context)).toMatchObject({ kind: 'claimed' });
  expect(await usage()).toEqual([{ settlements: 5 }, { settlements: 1 }]);
  const { perDay: _, ...uncounted } = await newClaim(environmentId, 0);
  expect(await tomorrow.claim(uncounted, context)).toMatchObject({ kind: 'claimed' });
  expect(await usage()).toHaveLength(2);
});

it('what the quota throws out takes none of its payer’s money, nor what its payer has no money for any of the quota', async () => {
  const { db } = await openTestDatabase();
  const context = contextOf(db);
  const lane = openLane(context);
  const [small, large] = [newId('environment'), newId('environment')];
  const first = await newClaim(small, 1);
  const { amount } = first.facts;
  const balance = { atomic: 2n * amount, readAt: new Date() };
  const ofOne = (environmentId: typeof small, perDay: number, place: number): NewClaim => ({
    ...first,
    facts: { ...first.facts, nonce: `0x${String(place).padStart(64, '0')}` },
    target: { ...first.target, environmentId },
    perDay,
    balance,
  });
  // In one batch, in this order: they queue behind another's.
  const before = lane.claim(await newClaim(large, 3), context);
  const results = await Promise.all(
    [
      ofOne(small, 1, 1),
      ofOne(small, 1, 2),
      ofOne(large, 3, 3),
      ofOne(large, 3, 4),
      await newClaim(large, 3),
      await newClaim(large, 3),
    ].map((claim) => lane.claim(claim, context)),
  );
  await before;
  expect(results.map((result) => (result.kind === 'refused' ? result.reason : result.kind))).toEqual([
    'claimed',
    'quota_exceeded',
    'claimed',
    'insufficient_funds',
    'claimed',
    'quota_exceeded',
  ]);
  const usage = 'SELECT settlements FROM facilitator_usage ORDER BY settlements';
  expect(await db.query(usage)).toEqual([{ settlements: 1 }, { settlements: 3 }]);
});
