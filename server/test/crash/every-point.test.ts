import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LocalChain } from '../../contracts/test/local-chain.ts';
import type { Point } from '../../src/kernel/points.ts';
import type { Member } from './fleet.ts';
import { type Buyer, type Order, pay, payUntilAnswered, type Purchase } from './purchases.ts';
import { setStage, type Stage, startLocalChain } from './stage.ts';

let local: LocalChain;
let stage: Stage;
beforeAll(async () => {
  local = await startLocalChain();
  stage = await setStage(local);
}, 120_000);
afterAll(async () => {
  await stage?.market.upstream.close();
  await local?.stop();
});

/** What is expected of a purchase in the end. */
interface End {
  answer?: number | string;
  state?: string;
  delivery?: string;
  runs: number;
  charges: number;
  refunds?: number;
}

interface Row {
  order: Order;
  /** `upstream`: while the upstream has the request. */
  at: Point | 'upstream';
  /** Where all stand together first, so that they go on in one batch. */
  by?: Point[];
  /** What the killed process leaves in the database: state, and how far the delivery is. */
  leaves: string;
  /** Who comes back to the other gateway with the same payment, and who never does. */
  back: End;
  away: End;
}

const paid = { answer: 200, state: 'settled', charges: 1 } as const;
const left = { state: 'settled', charges: 1 } as const;
const free = { charges: 0 } as const;
const givenBack = { state: 'settled', delivery: 'refunded', charges: 1, refunds: 1 } as const;

const rows: Row[] = [
  {
    order: 'whole',
    at: 'verified',
    leaves: 'nothing',
    back: { ...paid, runs: 1 },
    away: { ...free, runs: 0 },
  },
  {
    order: 'whole',
    at: 'claimed',
    leaves: 'forwarding',
    back: { ...paid, runs: 1 },
    away: { ...free, state: 'open', runs: 0 },
  },
  {
    order: 'whole',
    at: 'upstream',
    leaves: 'forwarding',
    back: { ...paid, runs: 2 },
    away: { ...free, state: 'open', runs: 1 },
  },
  {
    order: 'whole',
    at: 'answered',
    leaves: 'forwarding',
    back: { ...paid, runs: 2 },
    away: { ...free, state: 'open', runs: 1 },
  },
  {
    order: 'whole',
    at: 'stored',
    leaves: 'responded',
    back: { ...paid, runs: 1 },
    away: { ...left, runs: 1 },
  },
  {
    order: 'whole',
    at: 'examined',
    by: ['stored'],
    leaves: 'responded',
    back: { ...paid, runs: 1 },
    away: { ...left, runs: 1 },
  },
  {
    order: 'whole',
    at: 'recording',
    by: ['stored'],
    leaves: 'responded',
    back: { ...paid, runs: 1 },
    away: { ...left, runs: 1 },
  },
  {
    order: 'whole',
    at: 'recorded',
    by: ['stored'],
    leaves: 'settling',
    back: { ...paid, runs: 1 },
    away: { ...left, runs: 1 },
  },
  {
    order: 'whole',
    at: 'sent',
    by: ['stored'],
    leaves: 'settling',
    back: { ...paid, runs: 1 },
    away: { ...left, runs: 1 },
  },
  {
    order: 'whole',
    at: 'mined',
    by: ['stored'],
    leaves: 'settling',
    back: { ...paid, runs: 1 },
    away: { ...left, runs: 1 },
  },
  {
    order: 'whole',
    at: 'concluded',
    by: ['stored'],
    leaves: 'settled',
    back: { ...paid, runs: 1 },
    away: { ...left, runs: 1 },
  },
  {
    order: 'whole',
    at: 'answering',
    leaves: 'settled',
    back: { ...paid, runs: 1 },
    away: { ...left, runs: 1 },
  },
];

const buyers: readonly Buyer[] = ['stranger', 'wallet'];

describe('a process that is killed', () => {
  let turn = 0;
  it.each(rows)('at $order $at', { timeout: 90_000 }, async (row) => {
    const { fleet, market, oracle } = stage;
    turn += 1;
    const [killed, other] = turn % 2 ? fleet.gateways : (fleet.gateways.toReversed() as [Member, Member]);
    const t0 = Date.now();
    const lap = (w: string) => process.stderr.write(`  ${row.order} ${row.at} ${w} ${Date.now() - t0}\n`);
    const sign = (buyer: Buyer) => market.sign(other, row.order, buyer);
    const whose = row.order === 'upfront' || row.order === 'refund' ? ['stranger' as const] : buyers;
    const back = await Promise.all(whose.map(sign));
    const away = await Promise.all(whose.map(sign));
    lap('signed');
    const all = [...back, ...away];
    await bringTo(killed, row, all);
    lap('standing');
    await killed.kill();
    market.release();
    const restarted = killed.start();
    for (const purchase of all) expect(await leavingOf(purchase)).toBe(row.leaves);
    for (const purchase of all) await oracle.age(purchase);
    await Promise.all([
      ...back.map(async (purchase) => {
        const answer = await payUntilAnswered(other, purchase);
        expect(answer.status === 200 ? 200 : answer.json().code).toBe(row.back.answer);
        await oracle.settleDown(purchase);
      }),
      ...away.map((purchase) => oracle.settleDown(purchase)),
    ]);
    lap('settled');
    await restarted;
    lap('restarted');
    for (const purchase of back) await expectEnd(purchase, row.back, killed);
    for (const purchase of away) await expectEnd(purchase, row.away, other);
    lap('judged');
  });
});

/** Sends all of them to the process, and has them stand at the row's point in it. */
async function bringTo(member: Member, { by = [], at }: Row, all: readonly Purchase[]): Promise<void> {
  const { market } = stage;
  const [first] = [...by, at];
  if (first === 'upstream') market.hold();
  else if (first) await member.arm(first);
  for (const purchase of all) void pay(member, purchase);
  if (at === 'upstream') {
    await expect
      .poll(() => all.map((purchase) => market.runsOf(purchase)), { timeout: 20_000 })
      .toEqual(all.map(() => 1));
    return;
  }
  for (const next of [...by.slice(1), at]) {
    if (by.length === 0) break;
    await member.standing(all.length);
    await member.arm(next);
  }
  await member.standing(by.length === 0 ? all.length : 1);
}

async function leavingOf(purchase: Purchase): Promise<string> {
  const standing = await stage.oracle.standingOf(purchase);
  return standing ? [standing.state, standing.delivery ?? []].flat().join(' ') : 'nothing';
}

async function expectEnd(purchase: Purchase, end: End, at: Member): Promise<void> {
  const { oracle } = stage;
  const { standing, charges, refunds, runs } = await oracle.accountOf(purchase);
  const { state, delivery, refunds: givenBackTimes = 0 } = end;
  expect({
    state: standing?.state,
    delivery: standing?.delivery ?? undefined,
    runs,
    charges,
    refunds,
  }).toEqual({
    state,
    delivery,
    runs: end.runs,
    charges: end.charges,
    refunds: givenBackTimes,
  });
  expect(await oracle.findFaults(purchase, at, end.runs)).toEqual([]);
}
