import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Point } from '../../src/kernel/points.ts';
import type { Member } from './fleet.ts';
import { buyersOf, type Order, pay, payUntilAnswered } from './purchases.ts';
import { type OwnStage, setOwnStage } from './stage.ts';

/*
 * Purchases, points, processes and moments as a seed draws them: what no table thought of. It takes some seconds a run, and runs only
 * where CRASH_RUNS says how many; CRASH_SEED repeats a run's choices (CONTRIBUTING.md).
 */
const runs = Number(process.env['CRASH_RUNS'] ?? 0);
const firstSeed = Number(process.env['CRASH_SEED'] ?? Math.trunc(Date.now() / 1000));

const orders: Order[] = [
  'whole',
  'optimistic',
  'upfront',
  'stream',
  'optimistic-stream',
  'upfront-stream',
  'refund',
  'credits',
  'broken',
];
const points: Point[] = [
  'reserving',
  'capturing',
  'releasing',
  'verified',
  'claimed',
  'answered',
  'stored',
  'examined',
  'recording',
  'recorded',
  'sent',
  'mined',
  'concluded',
  'delivery-taken',
  'delivery-ended',
  'answering',
];

/** Mulberry32: small, and the same everywhere. */
function createRandom(seed: number) {
  let state = seed;
  const below = (limit: number): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
  return {
    below,
    chance: (percent: number): boolean => below(100) < percent,
    one<Item>(items: readonly Item[]): Item {
      const item = items[below(items.length)];
      if (item === undefined) throw new Error('there is nothing to draw from');
      return item;
    },
  };
}

describe.runIf(runs > 0)('whatever is killed, whenever', () => {
  let stage: OwnStage;
  beforeAll(async () => {
    stage = await setOwnStage();
  }, 120_000);
  afterAll(() => stage?.end());

  const seeds = Array.from({ length: runs }, (_, index) => firstSeed + index);
  it.each(seeds)('every rule holds (CRASH_SEED=%i)', { timeout: 120_000 }, async (seed) => {
    const { fleet, market, oracle } = stage;
    const random = createRandom(seed);
    const members = [...fleet.gateways, ...fleet.workers];
    const all = await Promise.all(
      Array.from({ length: 1 + random.below(8) }, () => {
        const order = random.one(orders);
        return market.sign(random.one(fleet.gateways), order, random.one(buyersOf(order)));
      }),
    );
    for (const member of members) {
      if (random.chance(40)) await member.arm(random.one(points));
    }
    const calls = all.map((one) => pay(random.one(fleet.gateways), one));
    await sleep(random.below(200));
    if (random.chance(50)) await Promise.all(all.map((one) => oracle.age(one)));
    await sleep(random.below(200));

    const killed = members.filter(() => random.chance(40));
    await Promise.all(killed.map((member) => member.kill()));
    const isDead = (member: Member) => killed.includes(member);
    await Promise.all(members.map((member) => (isDead(member) ? member.start() : member.disarm())));
    await Promise.all(all.map((one) => oracle.age(one)));
    await Promise.all(
      all
        .filter(() => random.chance(50))
        .map((one) => Promise.all(fleet.gateways.map((gateway) => payUntilAnswered(gateway, one)))),
    );
    await Promise.all(calls);
    await Promise.all(all.map((one) => oracle.settleDown(one)));
    const faults = await Promise.all(all.map((one) => oracle.findFaults(one, random.one(fleet.gateways))));
    expect(faults.flat()).toEqual([]);
  });

  it('leaves no claim, hold, delivery or transaction behind', async () => {
    await stage.outlast();
    await expect.poll(() => stage.oracle.findRemains(), { timeout: 30_000 }).toEqual([]);
  });
});
