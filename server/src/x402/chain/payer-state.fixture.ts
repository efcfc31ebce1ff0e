import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  type Address,
  decodeFunctionData,
  encodeFunctionResult,
  getAddress,
  type Hex,
  multicall3Abi,
  parseAbi,
} from 'viem';
import { afterEach } from 'vitest';
import { multicall3 } from './batch-call.ts';
import { createPayerStateReader } from './payer-state.ts';
import type { ReceiptWatch } from './receipt-watch.ts';
import { networks } from '../networks.ts';

const token = networks.sandbox.asset.address;

export interface Call {
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
/** Ends the RPCs of a test, as each test's end does. */
export const closeRpcs = () => closing.splice(0).forEach((close) => close());
afterEach(closeRpcs);

/** What an RPC says to a batch; nothing, where it has answered by itself or never will. */
export type Answering = (batch: Call[], ...rest: Parameters<RequestListener>) => unknown;

export async function startRpc(answering: Answering): Promise<Rpc> {
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
export function partsOf({ params: [{ to, data }] }: Call): Part[] {
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
export const word = (value: bigint): Hex => `0x${value.toString(16).padStart(64, '0')}`;

/** Answers each part of a batch: a word, code or none, or nothing where its view failed. */
export function answerEach(
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
export const answerWell = (batch: Call[]) =>
  answerEach(batch, ({ kind }) => (kind === 'code' ? false : kind === 'balance' ? 7n : 0n));

const contracts = { token, batchContract: multicall3 };
type Latest = ReceiptWatch['latest'];
/** The reader under test, over that RPC. */
export const read = (rpc: Rpc, latest: Latest = () => undefined) =>
  createPayerStateReader({ ...contracts, rpcUrl: rpc.url, watch: { latest } });
export const newNonce = (): Hex => `0x${randomBytes(32).toString('hex')}`;
export const newPayer = () => getAddress(`0x${randomBytes(20).toString('hex')}`);
export const anyone = () => [newPayer(), newNonce()] as const;
/** What `answerWell` says. */
export const poor = { balance: 7n, nonceUsed: false, hasCode: false };
