import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Address,
  decodeFunctionData,
  encodeFunctionResult,
  getAddress,
  type Hex,
  multicall3Abi,
  parseAbi,
} from 'viem';
import { afterEach, describe, expect, it } from 'vitest';
import { multicall3 } from './batch-call.ts';
import { createPayerStateReader } from './payer-state.ts';
import type { ReceiptWatch } from './receipt-watch.ts';
import type { Header } from './receipts.ts';
import { networks } from '../networks.ts';
import { ChainUnavailableError } from './json-rpc.ts';

const token = networks.sandbox.asset.address;

interface Call {
  id: number;
  method: string;
  params: [{ to?: Address; data: Hex }, string];
}

/** An RPC provider of a test: notes the batches that it gets, and answers them as it is told. */
interface Rpc {
  url: string;
  batches: Call[][];
  headers: Record<string, unknown>[];
}

const closing: (() => void)[] = [];
afterEach(() => closing.splice(0).forEach((close) => close()));

type Answering = (batch: Call[], ...rest: Parameters<RequestListener>) => unknown;

async function startRpc(answering: Answering): Promise<Rpc> {
  const rpc: Rpc = { url: '', batches: [], headers: [] };
  const handle = async (...[request, response]: Parameters<RequestListener>) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const batch = JSON.parse(Buffer.concat(chunks).toString()) as Call[];
    rpc.batches.push(batch);
    rpc.headers.push({ ...request.headers, url: request.url });
    const answer = await answering(batch, request, response);
    if (answer !== undefined) response.end(JSON.stringify(answer));
  };
  const server = createServer((request, response) => void handle(request, response)).listen(0, '127.0.0.1');
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, 'listening');
  rpc.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return rpc;
}

/** What one request asks, part by part. */
interface Part {
  kind: 'balance' | 'block' | 'code' | 'state';
  payer: Address;
  nonce?: Hex;
}

const views = parseAbi([
  'function balanceOf(address account) view returns (uint256)',
  'function authorizationState(address authorizer, bytes32 nonce) view returns (bool)',
  'function getBlockNumber() view returns (uint256)',
]);

/** The parts of each call: of views through the batch contract, or of a look for code. */
function partsOf({ params: [{ to, data }] }: Call): Part[] {
  if (to === undefined) {
    // The addresses stand behind a program of 42 bytes.
    const packed = data.slice(2 + 2 * 42);
    return (packed.match(/.{40}/g) ?? []).map((hex) => ({ kind: 'code', payer: getAddress(`0x${hex}`) }));
  }
  const { args } = decodeFunctionData({ abi: multicall3Abi, data });
  const calls = args[0] as readonly { target: Address; callData: Hex }[];
  return calls.map(({ target, callData }) => {
    const view = decodeFunctionData({ abi: views, data: callData });
    const asked = view.functionName === 'getBlockNumber' ? multicall3 : token;
    if (target.toLowerCase() !== asked.toLowerCase()) throw new Error('another contract is asked');
    if (view.functionName === 'getBlockNumber') return { kind: 'block', payer: multicall3 };
    return view.functionName === 'balanceOf'
      ? { kind: 'balance', payer: view.args[0] }
      : { kind: 'state', payer: view.args[0], nonce: view.args[1] };
  });
}

/** Each answer's is a new one, where a test doesn't say. */
let blocks = 1_000n;
function nextBlock(): bigint {
  blocks += 1n;
  return blocks;
}
function headerOf(number: bigint): Header {
  return { number, hash: `0x${'00'.repeat(32)}`, timestamp: 0n, baseFeePerGas: 0n };
}
const word = (value: bigint): Hex => `0x${value.toString(16).padStart(64, '0')}`;

/** Answers each part of a batch: a word, code or none, or nothing where its view failed. */
function answerEach(
  batch: Call[],
  answer: (part: Part) => bigint | boolean | undefined,
  block: bigint | null = nextBlock(),
) {
  return batch.map((call) => {
    const answers = partsOf(call).map((part) =>
      part.kind === 'block' ? (block ?? undefined) : answer(part),
    );
    const returned = answers.map((one) =>
      typeof one === 'bigint'
        ? { success: true, returnData: word(one) }
        : { success: false, returnData: '0x' as const },
    );
    const result =
      call.params[0].to === undefined
        ? `0x${answers.map((one) => (one === true ? '01' : '00')).join('')}`
        : encodeFunctionResult({ abi: multicall3Abi, functionName: 'aggregate3', result: returned });
    return { jsonrpc: '2.0', id: call.id, result };
  });
}

/** A balance of seven for everyone, no nonce used, and nobody with code. */
const answerWell = (batch: Call[]) =>
  answerEach(batch, ({ kind }) => (kind === 'code' ? false : kind === 'balance' ? 7n : 0n));

const contracts = { token, batchContract: multicall3 };
type Latest = ReceiptWatch['latest'];
const read = (rpc: Rpc, latest: Latest = () => undefined) =>
  createPayerStateReader({ ...contracts, rpcUrl: rpc.url, watch: { latest } });
const newNonce = (): Hex => `0x${randomBytes(32).toString('hex')}`;
const newPayer = () => getAddress(`0x${randomBytes(20).toString('hex')}`);
const anyone = () => [newPayer(), newNonce()] as const;
const poor = { balance: 7n, nonceUsed: false, hasCode: false };

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

/** An RPC whose block, balance and watched head are as the test says. */
async function stage() {
  const now = { block: 5n, balance: 7n, watched: undefined as bigint | undefined };
  const rpc = await startRpc((batch) =>
    answerEach(
      batch,
      ({ kind }) => (kind === 'code' ? false : kind === 'balance' ? now.balance : 0n),
      now.block,
    ),
  );
  const ask = read(rpc, () =>
    now.watched === undefined ? undefined : { header: headerOf(now.watched), atMs: performance.now() },
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

describe('an RPC', () => {
  it('that drops the connection is asked once more', async () => {
    const rpc = await startRpc((batch, request) => {
      if (rpc.batches.length > 1) return answerWell(batch);
      request.socket.destroy();
      return undefined;
    });
    expect(await read(rpc)(...anyone())).toMatchObject(poor);
    expect(rpc.batches).toHaveLength(2);
  });

  it('that drops it again is unavailable', async () => {
    const rpc = await startRpc((_batch, request) => void request.socket.destroy());
    await expect(read(rpc)(...anyone())).rejects.toThrow(ChainUnavailableError);
    expect(rpc.batches).toHaveLength(2);
  });

  it('that is not there is unavailable', async () => {
    const rpc = await startRpc(answerWell);
    closing.splice(0).forEach((close) => close());
    await expect(read(rpc)(...anyone())).rejects.toThrow(ChainUnavailableError);
  });

  it('that does not answer in five seconds is unavailable, and to those who waited for their turn', async () => {
    const rpc = await startRpc(() => undefined);
    const ask = read(rpc);
    const states = await Promise.allSettled(Array.from({ length: 450 }, () => ask(...anyone())));
    const reasons = states.map((state) => (state.status === 'rejected' ? String(state.reason) : 'answered'));
    expect(new Set(reasons)).toEqual(
      new Set([
        'ChainUnavailableError: the RPC gave no answer within 5000 ms',
        'ChainUnavailableError: no request was free within 5000 ms',
      ]),
    );
    expect(rpc.batches).toHaveLength(4);
  }, 9_000);

  it.each<[string, Answering]>([
    [
      'an error for the whole batch',
      () => ({ id: null, error: { code: -32_600, message: 'batch too large' } }),
    ],
    ['no JSON', (_batch, _request, response) => void response.end('<html>')],
    ['null', () => null],
    [
      'status 429',
      (batch, _request, response) => void response.writeHead(429).end(JSON.stringify(answerWell(batch))),
    ],
    [
      'errors',
      (batch) => batch.map(({ id }) => ({ id, error: { code: -32_000, message: 'header not found' } })),
    ],
    ['nothing', () => []],
    ['nulls', (batch) => batch.map(() => null)],
    ['other ids', (batch) => answerWell(batch).map((answer) => ({ ...answer, id: answer.id + 100 }))],
    ['no views', (batch) => answerWell(batch).slice(1)],
    ['no look for code', (batch) => answerWell(batch).slice(0, 1)],
    ['no bytes', (batch) => batch.map(({ id }) => ({ id, result: '0x' }))],
    ['a byte', (batch) => batch.map(({ id }) => ({ id, result: '0x00' }))],
    ['a word', (batch) => batch.map(({ id }) => ({ id, result: word(2n) }))],
    ['failed views', (batch) => answerEach(batch, () => undefined)],
    [
      'half an answer',
      (batch) => answerWell(batch).map((one) => ({ ...one, result: one.result.slice(0, -64) })),
    ],
    [
      'two for the state of the nonce',
      (batch) => answerEach(batch, ({ kind }) => (kind === 'code' ? false : 2n)),
    ],
    [
      'an endless body',
      (batch, _request, response) =>
        void response.end(' '.repeat(2 * 1024 * 1024) + JSON.stringify(answerWell(batch))),
    ],
  ])('that answers %s is unavailable, and not asked again', async (_what, answering) => {
    const rpc = await startRpc(answering);
    await expect(read(rpc)(...anyone())).rejects.toThrow(ChainUnavailableError);
    expect(rpc.batches).toHaveLength(1);
  });

  it('that fails one view fails its question alone', async () => {
    const broken = anyone();
    const rpc = await startRpc((batch) =>
      answerEach(batch, (part) => {
        if (part.kind === 'code') return false;
        if (part.kind === 'balance') return 7n;
        return part.nonce === broken[1] ? undefined : 0n;
      }),
    );
    const ask = read(rpc);
    const [first, second] = await Promise.allSettled([ask(...anyone()), ask(...broken)]);
    expect(first).toMatchObject({ status: 'fulfilled', value: poor });
    expect(second).toMatchObject({
      status: 'rejected',
      reason: expect.any(ChainUnavailableError) as unknown,
    });
  });

  it('is asked at its path, with the key and the password of its URL', async () => {
    const rpc = await startRpc(answerWell);
    const url = rpc.url.replace('http://', 'http://user:p%40ss@');
    await read({ ...rpc, url: `${url}/v2/key?plan=1` })(...anyone());
    expect(rpc.headers[0]).toMatchObject({
      url: '/v2/key?plan=1',
      authorization: `Basic ${Buffer.from('user:p@ss').toString('base64')}`,
      'content-type': 'application/json',
    });
  });
});
