import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import {
  answerEach,
  answerWell,
  anyone,
  type Call,
  newNonce,
  newPayer,
  partsOf,
  poor,
  read,
  startRpc,
  word,
} from './payer-state.fixture.ts';
import type { Header } from './receipts.ts';

describe('questions', () => {
  it('of one moment go out in one request, with one balance and one look for code for each payer', async () => {
    const rpc = await startRpc(answerWell);
    const ask = read(rpc);
    const payer = newPayer();
    const states = await Promise.all([ask(payer, newNonce()), ask(payer, newNonce()), ask(...anyone())]);
    expect(states).toMatchObject([poor, poor, poor]);
    expect(rpc.batches).toHaveLength(1);
    const kinds = (rpc.batches[0] ?? []).flatMap(partsOf).map(({ kind }) => kind);
    expect(kinds.toSorted()).toEqual([
      'balance',
      'balance',
      'block',
      'code',
      'code',
      'state',
      'state',
      'state',
    ]);
  });

  it('that come while a request is under way go out together with the next, however they came', async () => {
    const answered = Promise.withResolvers<void>();
    const rpc = await startRpc(async (batch) => {
      if (rpc.batches.length === 1) await answered.promise;
      return answerWell(batch);
    });
    const ask = read(rpc);
    const asked = [ask(...anyone())];
    await expect.poll(() => rpc.batches.length).toBe(1);
    for (let more = 0; more < 3; more++) {
      asked.push(ask(...anyone()));
      await sleep(5);
    }
    expect(rpc.batches).toHaveLength(1);
    answered.resolve();
    expect(await Promise.all(asked)).toMatchObject([poor, poor, poor, poor]);
    expect(rpc.batches.map((batch) => batch.flatMap(partsOf).length)).toEqual([4, 10]);
  });

  it('are not held up by a request that stalls', async () => {
    const rpc = await startRpc((batch) => (rpc.batches.length === 1 ? undefined : answerWell(batch)));
    const ask = read(rpc);
    const stalled = ask(...anyone());
    stalled.catch(() => {});
    await expect.poll(() => rpc.batches.length).toBe(1);
    const start = performance.now();
    expect(await ask(...anyone())).toMatchObject(poor);
    expect(performance.now() - start).toBeLessThan(2_000);
  });

  it('of one batch are never more than a node runs in one call', async () => {
    const rpc = await startRpc(answerWell);
    const ask = read(rpc);
    const states = await Promise.all(Array.from({ length: 230 }, () => ask(...anyone())));
    expect(states).toHaveLength(230);
    expect(rpc.batches.map((batch) => batch.flatMap(partsOf).length)).toEqual([301, 301, 91]);
  });

  it('get their own answers, in whatever order those come', async () => {
    const rpc = await startRpc((batch) =>
      answerEach(batch, ({ kind, payer }) => {
        if (kind === 'code') return (BigInt(payer) & 2n) === 2n;
        return kind === 'balance' ? BigInt(payer) : BigInt(payer) & 1n;
      }).toReversed(),
    );
    const ask = read(rpc);
    const payers = Array.from({ length: 20 }, () => newPayer());
    const states = await Promise.all(payers.map((payer) => ask(payer, newNonce())));
    expect(states).toMatchObject(
      payers.map((payer) => ({
        balance: BigInt(payer),
        nonceUsed: (BigInt(payer) & 1n) === 1n,
        hasCode: (BigInt(payer) & 2n) === 2n,
      })),
    );
  });

  it('are asked afresh in each block', async () => {
    const rpc = await startRpc((batch) =>
      answerEach(batch, ({ kind }) => (kind === 'code' ? false : kind === 'balance' ? 7n : used)),
    );
    let used = 0n;
    const ask = read(rpc);
    const [payer, nonce] = anyone();
    expect(await ask(payer, nonce)).toMatchObject(poor);
    used = 1n;
    expect(await ask(payer, newNonce())).toMatchObject({ ...poor, nonceUsed: true });
    expect(await ask(payer, nonce)).toMatchObject({ ...poor, nonceUsed: true });
  });
});

const kindsOf = (batch: Call[] | undefined) =>
  (batch ?? [])
    .flatMap(partsOf)
    .map(({ kind }) => kind)
    .toSorted();

function headerOf(number: bigint, hash: Header['hash']): Header {
  return { number, hash, timestamp: 0n, baseFeePerGas: 0n };
}

/** An RPC whose block, balance, nonces and watched head are as the test says. */
async function stage() {
  const now = {
    block: 5n,
    balance: 7n,
    used: 0n,
    watched: undefined as bigint | undefined,
    watchedHash: word(1n),
  };
  const rpc = await startRpc((batch) =>
    answerEach(
      batch,
      ({ kind }) => (kind === 'code' ? false : kind === 'balance' ? now.balance : now.used),
      now.block,
    ),
  );
  const ask = read(rpc, () =>
    now.watched === undefined
      ? undefined
      : { header: headerOf(now.watched, now.watchedHash), atMs: performance.now() },
  );
  return { now, rpc, ask };
}

describe('what a block has said', () => {
  it('of a payer and a nonce is not asked again within it', async () => {
    const { rpc, ask } = await stage();
    const [payer, nonce] = anyone();
    await ask(payer, nonce);
    expect(await ask(payer, nonce)).toMatchObject(poor);
    expect(rpc.batches).toHaveLength(1);

    expect(await Promise.all([ask(payer, newNonce()), ask(payer, nonce)])).toMatchObject([poor, poor]);
    expect(kindsOf(rpc.batches[1])).toEqual(['block', 'state']);
  });

  it('is what was asked for then: its age is told, so that what was settled since can be subtracted', async () => {
    const { ask } = await stage();
    const [payer, nonce] = anyone();
    const beforeMs = performance.now();
    const first = await ask(payer, nonce);
    expect(first.askedAtMs).toBeGreaterThanOrEqual(beforeMs);
    expect((await ask(payer, newNonce())).askedAtMs).toBe(first.askedAtMs);
  });

  it('is forgotten once an answer is of another block', async () => {
    const { now, rpc, ask } = await stage();
    const payer = newPayer();
    await ask(payer, newNonce());
    Object.assign(now, { block: 6n, balance: 9n });
    // The question that learns of it had no reason to ask for more.
    expect(await ask(payer, newNonce())).toMatchObject(poor);
    expect(await ask(payer, newNonce())).toMatchObject({ ...poor, balance: 9n });
    expect(rpc.batches.map(kindsOf).at(-1)).toEqual(['balance', 'block', 'code', 'state']);
  });

  it('is forgotten once another block is seen by whoever watches for receipts', async () => {
    const { now, ask } = await stage();
    const [payer, nonce] = anyone();
    await ask(payer, nonce);
    Object.assign(now, { block: 6n, balance: 9n, watched: 6n });
    expect(await ask(payer, nonce)).toMatchObject({ ...poor, balance: 9n });
  });

  it('is forgotten once another block of the same number is seen in its place', async () => {
    const { now, rpc, ask } = await stage();
    const [payer, nonce] = anyone();
    now.watched = 5n;
    await ask(payer, nonce);
    await ask(payer, nonce);
    expect(rpc.batches).toHaveLength(1);
    Object.assign(now, { balance: 9n, watchedHash: word(2n) });
    expect(await ask(payer, nonce)).toMatchObject({ ...poor, balance: 9n });
  });

  it('of a nonce that is used refuses nothing later: another block may be in the place of that one', async () => {
    const { now, ask } = await stage();
    const [payer, nonce] = anyone();
    now.used = 1n;
    expect(await ask(payer, nonce)).toMatchObject({ nonceUsed: true });
    now.used = 0n;
    expect(await ask(payer, nonce)).toMatchObject({ nonceUsed: false });
  });

  it('is asked again by who needs a later word on the payer, once for all who do', async () => {
    const { now, rpc, ask } = await stage();
    const payer = newPayer();
    const nonces = [newNonce(), newNonce(), newNonce()];
    await Promise.all(nonces.map((nonce) => ask(payer, nonce)));
    now.balance = 9n;
    const sinceMs = performance.now();
    const states = await Promise.all(nonces.map((nonce) => ask(payer, nonce, sinceMs)));
    expect(states.map(({ balance }) => balance)).toEqual([9n, 9n, 9n]);
    expect(kindsOf(rpc.batches[1])).toEqual(['balance', 'block', 'code']);
  });

  it('is not believed of a node that lags behind a block that was seen before: it is asked again', async () => {
    const { now, rpc, ask } = await stage();
    await ask(...anyone());
    Object.assign(now, { block: 4n, balance: 99n });
    const asked = ask(...anyone());
    await expect.poll(() => rpc.batches.length).toBeGreaterThan(1);
    Object.assign(now, { block: 5n, balance: 7n });
    expect(await asked).toMatchObject(poor);
  });

  it('is believed of a chain that has lost its last blocks, once nobody sees them any more', async () => {
    const { now, ask } = await stage();
    await ask(...anyone());
    Object.assign(now, { block: 4n, balance: 9n });
    expect(await ask(...anyone())).toMatchObject({ ...poor, balance: 9n });
  });

  it('is kept for nobody where the contract does not tell its block', async () => {
    const rpc = await startRpc((batch) =>
      answerEach(batch, ({ kind }) => (kind === 'code' ? false : kind === 'balance' ? 7n : 0n), null),
    );
    const ask = read(rpc);
    const [payer, nonce] = anyone();
    expect([await ask(payer, nonce), await ask(payer, nonce)]).toMatchObject([poor, poor]);
    expect(rpc.batches).toHaveLength(2);
  });
});
