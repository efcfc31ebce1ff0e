import { afterAll, beforeAll, expect, it } from 'vitest';
import { killInRound, nameOf, type Row } from './rounds.ts';
import { type OwnStage, setOwnStage } from './stage.ts';

/*
 * Where the batch contract bounds what one that fails can cost, an answer is stored by the transaction that records its payment's batch:
 * it is there with that, or not at all.
 */
let stage: OwnStage;
beforeAll(async () => {
  stage = await setOwnStage({ ownBatchContract: `0x${'ba'.repeat(20)}` });
}, 120_000);
afterAll(() => stage?.end());

const once = '200, settled, 1 run, charged 1';
const gone = 'settled, 1 run, charged 1';
const again = '200, settled, 2 runs, charged 1';
const free = 'open, 1 run, charged 0';

/** Beyond two batches on their way answers are stored by themselves. */
const rounds: Row[][] = [
  [
    ['whole', ['answering'], 'settled', once, gone],
    ['optimistic', ['stored'], 'responded', once, gone],
    ['whole', ['answered'], 'forwarding', again, free],
    ['whole', ['answered', 'sent'], 'settling', once, gone],
    ['whole', ['answered', 'concluded'], 'settled', once, gone],
  ],
  [
    ['whole', ['answered', 'mined'], 'settling', once, gone],
    ['whole', ['answered', 'examined'], 'forwarding', again, free],
  ],
  [['whole', ['answered', 'recording'], 'forwarding', again, free]],
  [['whole', ['answered', 'recorded'], 'settling', once, gone]],
];

const cases = rounds.map((rows, index) => ({ rows, index, names: rows.map(nameOf).join(', ') }));
it.each(cases)(
  'a gateway that is killed loses and doubles nothing: $names',
  { timeout: 120_000 },
  async ({ rows, index }) => {
    const [one, two] = stage.fleet.gateways;
    const [killed, other] = index % 2 ? [one, two] : [two, one];
    const { seen, faults } = await killInRound(stage, rows, killed, other);
    expect(seen).toEqual(rows);
    expect(faults).toEqual([]);
  },
);

it('no claim, hold, delivery or transaction stays, once the authorisations have run out', async () => {
  await stage.outlast();
  await expect.poll(() => stage.oracle.findRemains(), { timeout: 20_000 }).toEqual([]);
});
