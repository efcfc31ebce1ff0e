import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createDatabaseClock,
  type Database,
  type DatabaseClock,
  type WriteContext,
} from '../../src/db/index.ts';
import { newId } from '../../src/kernel/ids.ts';
import { type Chain, createSettler, exactFacts, transferTypedData, networks } from '../../src/x402/index.ts';
import { recordBatch } from '../../src/x402/settlement/settle-batch.ts';
import { answer, type Answered, type Ground, letPass, openGround, paymentOf } from '../helpers/settlement.ts';
import {
  claim,
  contextOf,
  fingerprint,
  newOrder,
  openLane,
  presenter,
  price,
  report,
  storeAnswer,
} from './payment-parts.ts';
import { fundAccount } from '../../src/embedded/index.ts';

const skewSeconds = 300;
const worker = new URL('worker.fixture.ts', import.meta.url).pathname;
const skew = new URL('skewed-clock.ts', import.meta.url).href;

let ground: Ground;
let db: Database;
let chain: Chain;
/** Two processes whose clocks are ten minutes apart, and neither right. */
let behind: WriteContext;
let ahead: WriteContext;
/** What the program goes by. */
let clock: DatabaseClock;
beforeAll(async () => {
  ground = await openGround();
  ({ chain } = ground);
  ({ db } = ground.database);
  behind = contextOf(db, -skewSeconds);
  ahead = contextOf(db, skewSeconds);
  clock = await createDatabaseClock(db, { onError: report });
});
afterAll(() => clock?.stop());

const resume = (context: WriteContext) => createSettler({ context, chain, report }).resume();

async function transactionOf({ payment }: Answered) {
  const [row, ...more] = await db.query<{ hashes: string[]; leaseUntil: Date }>(
    `SELECT t.hashes, t.lease_until FROM settlement_transactions t
     JOIN settlement_items i USING (network, relayer, relayer_nonce) WHERE i.payment_id = $1`,
    [payment.id],
  );
  expect(more).toEqual([]);
  return row;
}

/** One whose transaction is written down and not sent, by a process that is gone. */
async function record(context: WriteContext): Promise<Answered> {
  const scene = await answer(ground, price, context);
  await recordBatch({ context, chain, report }, [scene.payment]);
  return scene;
}

const stateOf = async (scene: Answered) => (await paymentOf(db, scene)).state;

describe('where the clocks of two processes are minutes apart', () => {
  it.each([
    ['slow', 'fast'],
    ['fast', 'slow'],
  ])(
    'what a %s one has written down is left to it for its lease, and then sent by a %s one as it was signed',
    async (first) => {
      const [by, other] = first === 'slow' ? [behind, ahead] : [ahead, behind];
      const scene = await record(by);
      const before = await transactionOf(scene);
      await resume(other);
      expect(await transactionOf(scene), 'its lease runs').toEqual(before);

      await db.query("UPDATE settlement_transactions SET lease_until = now() - interval '1 second'");
      await resume(other);
      expect(await stateOf(scene)).toBe('settled');
      expect((await transactionOf(scene))?.hashes, 'nothing was signed again').toEqual(before?.hashes);
    },
  );

  it('an answer that was stored is settled a few seconds later, and an attempt reopened when its lease is over, not before', async () => {
    for (const [by, other] of [
      [behind, ahead],
      [ahead, behind],
    ] as const) {
      const stored = await answer(ground, price, by);
      const order = await newOrder();
      const running = { ...order, payment: await claim(by, order) };
      await resume(other);
      expect([await stateOf(stored), await stateOf(running)]).toEqual(['responded', 'forwarding']);
      await letPass(db, 6);
      await resume(other);
      expect([await stateOf(stored), await stateOf(running)]).toEqual(['settled', 'forwarding']);
      await letPass(db, 30);
      await resume(other);
      expect(await stateOf(running)).toBe('open');
    }
  });

  it('what was settled after a balance was read is not spent once more, and what was settled before is not taken from it', async () => {
    for (const settles of [behind, ahead]) {
      const reads = { ...settles, clock };
      const first = await newOrder();
      await fundAccount(ground.local.rpcUrl, { address: first.payer.address, tokenAtomic: 2n * price });
      const payment = await claim(settles, first);
      await storeAnswer(settles, payment);
      const readBefore = reads.clock.now();
      await createSettler({ context: settles, chain, report }).settle(payment);
      const claimAt = async (readAt: Date, atomic: bigint) => {
        const authorization = {
          ...first.sent.authorization,
          nonce: (await newOrder()).sent.authorization.nonce,
        };
        const signature = await first.payer.signTypedData(transferTypedData(networks.sandbox, authorization));
        const result = await openLane(reads).claim(
          {
            facts: exactFacts({ ...first.sent, authorization, signature }),
            presenter,
            fingerprint,
            target: { ...first.target, serverId: newId('server') },
            mode: 'after_success',
            hosted: false,
            balance: { atomic, readAt },
          },
          reads,
        );
        return result.kind;
      };
      expect(await claimAt(readBefore, price)).toBe('refused');
      await db.query("UPDATE payments SET settled_at = settled_at - interval '1 second' WHERE id = $1", [
        payment.id,
      ]);
      expect(await claimAt(reads.clock.now(), price)).toBe('claimed');
    }
  });

  it('and both take up the same at once, each payment is charged once, and told once', async () => {
    const scenes: Answered[] = [];
    for (let index = 0; index < 12; index += 1) {
      const by = index % 2 === 0 ? ahead : behind;
      scenes.push(await (index % 3 === 0 ? record(by) : answer(ground, price, by)));
    }
    await letPass(db, 60);
    const taken = await Promise.all([-skewSeconds, skewSeconds].map(runResume));
    expect(
      taken.every((output) => /^\d+\n$/.test(output)),
      taken.join(''),
    ).toBe(true);
    for (const scene of scenes) {
      expect(await stateOf(scene)).toBe('settled');
      expect(await chain.balanceOf(scene.payee)).toBe(price);
      const told = await db.query(
        "SELECT 1 FROM audit_events WHERE resource = $1 AND action = 'payment.settled'",
        [scene.payment.id],
      );
      expect(told).toHaveLength(1);
    }
  }, 30_000);
});

/** A process whose whole clock is wrong takes up what it finds; gives what it says. */
async function runResume(seconds: number): Promise<string> {
  const child = spawn(
    process.execPath,
    ['--import', skew, worker, ground.database.url, ground.local.rpcUrl, 'resume'],
    {
      env: { PATH: process.env['PATH'], CLOCK_AHEAD_SECONDS: String(seconds) },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const [said] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  return said;
}
