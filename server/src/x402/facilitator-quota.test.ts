import { expect, it } from 'vitest';
import { newId } from '../kernel/ids.ts';
import { contextOf, newOrder, openLane } from '../../test/crash/payment-parts.ts';
import { openTestDatabase } from '../../test/helpers/database.ts';
import { exactFacts } from './payment.ts';
import type { NewClaim } from './payment-lane.ts';

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

it('a quota is exact over several lanes, counts an authorisation once, and begins anew at midnight UTC', async () => {
  const { db } = await openTestDatabase();
  const context = contextOf(db);
  const lanes = Array.from({ length: 3 }, () => openLane(context));
  const environmentId = newId('environment');
  const claims = await Promise.all(Array.from({ length: 12 }, () => newClaim(environmentId, 5)));
  // Each authorisation comes three times: twice in one batch of a lane, and in another's.
  const present = (claim: NewClaim, at: number) => {
    const lane = lanes[at % lanes.length];
    if (!lane) throw new Error('there are lanes');
    return lane.claim(claim, context);
  };
  const results = await Promise.all(
    claims.flatMap((claim, index) => [index, index, index + 1].map((at) => present(claim, at))),
  );
  const kinds = results.map((result) => (result.kind === 'refused' ? result.reason : result.kind));
  expect(kinds.filter((kind) => kind === 'claimed')).toHaveLength(5);
  expect(kinds.filter((kind) => kind === 'known')).toHaveLength(10);
  expect(kinds.filter((kind) => kind === 'quota_exceeded')).toHaveLength(21);
  const usage = () => db.query('SELECT settlements FROM facilitator_usage ORDER BY day');
  expect(await usage()).toEqual([{ settlements: 5 }]);

  const tomorrow = openLane(contextOf(db, 24 * 60 * 60));
  expect(await tomorrow.claim(await newClaim(environmentId, 5), context)).toMatchObject({ kind: 'claimed' });
  expect(await usage()).toEqual([{ settlements: 5 }, { settlements: 1 }]);
  const { perDay: _, ...uncounted } = await newClaim(environmentId, 0);
  expect(await tomorrow.claim(uncounted, context)).toMatchObject({ kind: 'claimed' });
  expect(await usage()).toHaveLength(2);
});
