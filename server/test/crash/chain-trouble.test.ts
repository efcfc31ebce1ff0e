import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { connect, type LocalChain, startLocalChain } from '../../contracts/test/local-chain.ts';
import type { Point } from '../../src/kernel/points.ts';
import { type RpcRelay, startRpcRelay } from '../helpers/rpc-relay.ts';
import type { Member } from './fleet.ts';
import { pay, payUntilAnswered, type Purchase } from './purchases.ts';
import { setStage, type Stage } from './stage.ts';

let local: LocalChain;
let relay: RpcRelay;
let stage: Stage;
beforeAll(async () => {
  local = await startLocalChain();
  relay = await startRpcRelay(local.rpcUrl);
  stage = await setStage(relay.url);
}, 120_000);
afterAll(async () => {
  await stage?.market.upstream.close();
  await relay?.down();
  await local?.stop();
});

const once = 'settled, 1 run, charged 1';

/** A stranger's purchase and a wallet's. */
async function signBoth(at: Member): Promise<Purchase[]> {
  const { market } = stage;
  return [await market.sign(at, 'whole', 'stranger'), await market.sign(at, 'whole', 'wallet')];
}

/** Brings purchases to this point, where they stand; gives what resolves when they are answered, once they go on. */
async function bringTo(
  member: Member,
  point: Point,
  all: readonly Purchase[],
): Promise<{ answered: Promise<unknown> }> {
  await member.arm('stored');
  const answered = Promise.all(all.map((one) => pay(member, one)));
  await member.standing(all.length);
  if (point !== 'stored') {
    await member.moveTo(point);
    await member.standing();
  }
  return { answered };
}

/** The client comes back until it has its answer; then nothing may be wrong. */
async function expectAllPaidOnce(all: readonly Purchase[]): Promise<void> {
  const { oracle, fleet } = stage;
  for (const one of all) await oracle.age(one);
  for (const one of all) expect((await payUntilAnswered(fleet.gateways[1], one)).status).toBe(200);
  for (const one of all) await oracle.settleDown(one);
  // What the chain has forgotten is sent again by a worker, in its next round.
  for (const one of all) await expect.poll(() => oracle.describeEnd(one), { timeout: 15_000 }).toBe(once);
  for (const one of all) expect(await oracle.findFaults(one, fleet.gateways[1])).toEqual([]);
}

/** Ends the chain and starts another with what the first knew when this state was saved; gives how many blocks that has forgotten. */
async function restartChain(how: 'kill' | 'stop', state?: `0x${string}`): Promise<bigint> {
  await relay.down();
  const height = await connect(local.rpcUrl).getBlockNumber();
  const saved = state ?? (await connect(local.rpcUrl).dumpState());
  await local[how]();
  local = await startLocalChain();
  await connect(local.rpcUrl).loadState({ state: saved });
  const forgotten = height - (await connect(local.rpcUrl).getBlockNumber());
  await relay.up(local.rpcUrl);
  return forgotten;
}

describe('a chain that restarts while payments are being settled', { timeout: 90_000 }, () => {
  it.each(['stored', 'recorded', 'sent', 'mined'] as const)(
    'charges each once, where it lost nothing, and a gateway that stood at %s goes on',
    async (point) => {
      const [gateway] = stage.fleet.gateways;
      const all = await signBoth(gateway);
      const { answered } = await bringTo(gateway, point, all);
      expect(await restartChain('stop')).toBe(0n);
      await gateway.disarm();
      await answered;
      await expectAllPaidOnce(all);
    },
  );

  it('and has forgotten the last payments, answered ones among them, charges each once, though a gateway dies with it', async () => {
    const [gateway] = stage.fleet.gateways;
    // Funded by the chain that is to be forgotten back to, all of them.
    const [answered, recorded, mined] = [
      await signBoth(gateway),
      await signBoth(gateway),
      await signBoth(gateway),
    ];
    await bringTo(gateway, 'recorded', recorded);
    const state = await connect(local.rpcUrl).dumpState();
    await gateway.disarm();
    for (const one of answered) expect((await payUntilAnswered(gateway, one)).status).toBe(200);
    await expectAllPaidOnce([...answered, ...recorded]);
    await bringTo(gateway, 'mined', mined);
    await gateway.kill();
    expect(await restartChain('kill', state)).toBeGreaterThan(0n);
    await gateway.start();
    await expectAllPaidOnce([...answered, ...recorded, ...mined]);
  });
});

describe('an RPC that is away', { timeout: 90_000 }, () => {
  it.each(['stored', 'examined', 'recorded', 'sent'] as const)(
    'from %s on leaves each payment to be settled once when it is back, and takes no new one meanwhile',
    async (point) => {
      const [gateway, other] = stage.fleet.gateways;
      const all = await signBoth(gateway);
      const { answered } = await bringTo(gateway, point, all);
      const unpaid = await stage.market.sign(other, 'whole', 'stranger');
      await relay.down();
      expect((await pay(other, unpaid))?.status).toBe(503);
      await gateway.disarm();
      if (point !== 'sent') {
        await answered;
        for (const { answers } of all) expect(answers.at(-1)?.json().code).toBe('settlement_pending');
      }
      await relay.up();
      await expectAllPaidOnce([...all, unpaid]);
      await answered;
    },
  );
});
