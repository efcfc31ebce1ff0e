import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect } from '../../contracts/test/local-chain.ts';
import type { Point } from '../../src/kernel/points.ts';
import { forgetLast } from '../helpers/settlement.ts';
import type { Member } from './fleet.ts';
import { type Order, payUntilAnswered } from './purchases.ts';
import { bringTo, inOneWord, killInRound, mapAll, nameOf, type Place, type Row, signAll } from './rounds.ts';
import { type OwnStage, setOwnStage } from './stage.ts';

let stage: OwnStage;
beforeAll(async () => {
  stage = await setOwnStage();
}, 120_000);
afterAll(() => stage?.end());

const once = '200, settled, 1 run, charged 1';
const gone = 'settled, 1 run, charged 1';
/** A run that nobody has the answer of is repeated. */
const again = '200, settled, 2 runs, charged 1';
const free = 'open, 1 run, charged 0';
const first = '200, settled done, 1 run, charged 1';
const firstAgain = '200, settled done, 2 runs, charged 1';
/** Its process's until the lease is over, and then whoever's comes with the payment. */
const owed = 'settled running, 1 run, charged 1';
const done = 'settled done, 1 run, charged 1';
const returned = 'settled refunded, 0 runs, charged 1, returned 1';
const returnedAfterRun = 'settled refunded, 1 run, charged 1, returned 1';
const told = `payment_refunded, ${returnedAfterRun}`;

/**
 * All of a round stand in one process when it is killed. Who stands at `examined`, `recording` or `recorded` keeps the others of that process
 * from being settled, and comes last but for who stands at `reserving`, `capturing` or `releasing`: those keep the others from being claimed.
 */
const rounds: Row[][] = [
  [
    ['whole', ['verified'], 'nothing', once, 'nothing, 0 runs, charged 0'],
    ['whole', ['claimed'], 'forwarding', once, 'open, 0 runs, charged 0'],
    ['whole', ['upstream'], 'forwarding', again, free],
    ['whole', ['answered'], 'forwarding', again, free],
    ['whole', ['stored'], 'responded', once, gone],
    ['optimistic', ['stored'], 'responded', once, gone],
    ['whole', ['stored', 'examined'], 'responded', once, gone],
    ['credits', ['claimed'], 'forwarding', once, 'open, 0 runs, charged 0'],
    ['credits', ['stored'], 'settled', once, gone],
    ['credits', ['verified', 'reserving'], 'nothing', once, 'nothing, 0 runs, charged 0'],
  ],
  [
    ['whole', ['stored', 'sent'], 'settling', once, gone],
    ['whole', ['stored', 'mined'], 'settling', once, gone],
    ['whole', ['stored', 'concluded'], 'settled', once, gone],
    ['whole', ['answering'], 'settled', once, gone],
    ['optimistic', ['stored', 'sent'], 'settling', once, gone],
    ['whole', ['stored', 'recording'], 'responded', once, gone],
    ['credits', ['upstream'], 'forwarding', again, free],
    ['credits', ['answered', 'capturing'], 'forwarding', again, free],
  ],
  [
    ['stream', ['upstream'], 'forwarding', firstAgain, free],
    ['stream', ['stored'], 'responded running', firstAgain, owed],
    ['stream', ['stored', 'sent'], 'settling running', firstAgain, owed],
    ['stream', ['stored', 'concluded'], 'settled running', firstAgain, owed],
    ['stream', ['answering'], 'settled running', firstAgain, owed],
    ['stream', ['delivery-ended'], 'settled done', `response_not_replayable, ${done}`, done],
    ['optimistic-stream', ['stored'], 'responded running', firstAgain, owed],
    ['whole', ['stored', 'recorded'], 'settling', once, gone],
    ['broken', ['answered', 'releasing'], 'forwarding', 'upstream_failed, open, 2 runs, charged 0', free],
  ],
  [
    ['upfront', ['claimed'], 'responded owed', first, returned],
    ['upfront', ['claimed', 'concluded'], 'settled owed', first, returned],
    ['upfront', ['delivery-taken'], 'settled running', first, returned],
    ['upfront', ['upstream'], 'settled running', firstAgain, returnedAfterRun],
    ['upfront', ['answered'], 'settled running', firstAgain, returnedAfterRun],
    ['upfront', ['delivery-ended'], 'settled done', first, done],
    ['optimistic', ['stored', 'examined'], 'responded', once, gone],
  ],
  [
    [
      'refund',
      ['answered'],
      'settled running',
      `upstream_failed, ${returnedAfterRun.replace('1 run', '2 runs')}`,
      returnedAfterRun,
    ],
    ['refund', ['delivery-ended'], 'settled refunded', told, returnedAfterRun],
    ['refund', ['delivery-ended', 'sent'], 'settled refunded', told, returnedAfterRun],
    ['refund', ['delivery-ended', 'concluded'], 'settled refunded', told, returnedAfterRun],
    ['upfront', ['claimed', 'recorded'], 'settling owed', first, returned],
    ['credits-stream', ['verified', 'reserving'], 'nothing', first, 'nothing, 0 runs, charged 0'],
  ],
  [
    ['optimistic-stream', ['claimed'], 'forwarding', first, 'open, 0 runs, charged 0'],
    ['optimistic-stream', ['stored', 'concluded'], 'settled done', `response_not_replayable, ${done}`, done],
    ['upfront-stream', ['delivery-taken'], 'settled running', first, returned],
    ['upfront-stream', ['answered'], 'settled running', firstAgain, returnedAfterRun],
    ['upfront-stream', ['answering'], 'settled running', firstAgain, returnedAfterRun],
    ['upfront-stream', ['delivery-ended'], 'settled done', `response_not_replayable, ${done}`, done],
    ['credits-stream', ['claimed'], 'forwarding', first, 'open, 0 runs, charged 0'],
    ['credits-stream', ['upstream'], 'forwarding', firstAgain, free],
    ['credits-stream', ['stored'], 'settled running', firstAgain, owed],
    ['credits-stream', ['answering'], 'settled running', firstAgain, owed],
    ['credits-stream', ['delivery-ended'], 'settled done', `response_not_replayable, ${done}`, done],
    ['credits-stream', ['answered', 'capturing'], 'forwarding', firstAgain, free],
  ],
  [['refund', ['delivery-ended', 'recorded'], 'settled refunded', told, returnedAfterRun]],
];

describe('a gateway that is killed', () => {
  const cases = rounds.map((rows, index) => ({ rows, index, names: rows.map(nameOf).join(', ') }));
  it.each(cases)('loses and doubles nothing: $names', { timeout: 120_000 }, async ({ rows, index }) => {
    const { gateways } = stage.fleet;
    const [killed, other] = index % 2 ? gateways : (gateways.toReversed() as [Member, Member]);
    const { seen, faults } = await killInRound(stage, rows, killed, other);
    expect(seen).toEqual(rows);
    expect(faults).toEqual([]);
  });
});

const workerRows: [order: Order, waitsAt: Place, at: Point, end: string][] = [
  ['whole', 'stored', 'examined', gone],
  ['whole', 'stored', 'recording', gone],
  ['whole', 'stored', 'recorded', gone],
  ['whole', 'stored', 'sent', gone],
  ['whole', 'stored', 'mined', gone],
  // Who sleeps past its lease between taking a delivery and running the upstream runs it for nothing.
  ['upfront', 'delivery-taken', 'delivery-taken', returnedAfterRun],
  ['upfront', 'delivery-taken', 'delivery-ended', returnedAfterRun],
];

describe('a worker that is killed while it does the work of a gateway that sleeps', () => {
  it.each(workerRows)(
    'loses and doubles nothing, nor does the gateway when it wakes: %s, asleep at %s, killed at %s',
    { timeout: 90_000 },
    async (order, waitsAt, at, end) => {
      const { fleet, oracle } = stage;
      const [gateway] = fleet.gateways;
      const all = await signAll(stage, gateway, order);
      const { answered } = await bringTo(stage, gateway, [waitsAt], all);
      const isAtStart = order === 'upfront';
      await fleet.workers[0].arm(at);
      if (isAtStart) await mapAll(all, oracle.age);
      if (isAtStart) await fleet.workers[1].kill();
      await (isAtStart ? fleet.workers[1].start(at) : fleet.workers[1].arm(at));
      await mapAll(all, oracle.age);
      const stopped = await Promise.any(fleet.workers.map((worker) => worker.standing().then(() => worker)));
      await stopped.kill();
      await mapAll(fleet.workers, (worker) => (worker === stopped ? worker.start() : worker.disarm()));
      await mapAll(all, oracle.settleDown);
      await gateway.disarm();
      await answered;
      expect(inOneWord(await mapAll(all, oracle.describeEnd))).toBe(end);
      expect((await mapAll(all, (one) => oracle.findFaults(one, gateway))).flat()).toEqual([]);
    },
  );
});

describe('a worker that is killed while it follows a reorganisation', () => {
  it.each(['forgotten', 'undoing', 'undone'] as const)(
    'leaves each payment to be settled once more by another, and each hold captured: killed at %s',
    { timeout: 90_000 },
    async (at) => {
      const { fleet, oracle } = stage;
      const [gateway] = fleet.gateways;
      const all = await signAll(stage, gateway, 'whole');
      // Older than what the chain is to forget: what the buyers have.
      await connect(stage.local.rpcUrl).mine({ blocks: 3 });
      await mapAll(all, (one) => payUntilAnswered(gateway, one));
      await mapAll(all, oracle.settleDown);
      await mapAll(fleet.workers, (worker) => worker.arm(at));
      // A worker that has looked just before sends what isn't counted any more: mined at once it would only have moved, and nothing is undone.
      const chain = connect(stage.local.rpcUrl);
      await chain.setAutomine(false);
      await forgetLast(stage, 2);
      const stopped = await Promise.any(fleet.workers.map((worker) => worker.standing().then(() => worker)));
      await stopped.kill();
      await chain.setAutomine(true);
      await chain.mine({ blocks: 1 });
      await mapAll(fleet.workers, (worker) => (worker === stopped ? worker.start() : worker.disarm()));
      for (const one of all) {
        const end = async () => {
          await oracle.age(one);
          return [await oracle.describeEnd(one), await oracle.findFaults(one, gateway)];
        };
        await expect.poll(end, { timeout: 30_000, interval: 200 }).toEqual([gone, []]);
      }
    },
  );
});

describe('of all that was cut off', () => {
  it('no claim, hold, delivery or transaction stays, once the authorisations have run out', async () => {
    await stage.outlast();
    await expect.poll(() => stage.oracle.findRemains(), { timeout: 20_000 }).toEqual([]);
  });
});
