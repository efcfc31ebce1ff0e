import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { type Hex, hexToBigInt, numberToHex } from 'viem';

interface Call {
  id: number;
  method: string;
  params: unknown[];
}
interface Answer {
  id: number;
  result?: unknown;
  error?: unknown;
}

/** One of the two nodes behind the address hasn't got the blocks after this one. */
export interface Lag {
  block: bigint;
  /** Which requests the other node gets, by the methods that they call. */
  isAhead(methods: readonly string[]): boolean;
  /** Takes the name of a block that it hasn't got for its latest, instead of saying so. */
  isCareless?: boolean;
}

/** A provider of two nodes, the one behind the other. */
export interface LaggingRpc {
  url: string;
  /** From now on, or no more. */
  lag(lag: Lag | undefined): void;
  close(): void;
}

export async function startLaggingRpc(node: string): Promise<LaggingRpc> {
  let current: Lag | undefined;
  const server = createServer((request, response) => {
    void (async () => {
      const calls = (await json(request)) as Call[];
      const lag = current;
      const isBehind = lag && !lag.isAhead(calls.map(({ method }) => method));
      response.end(JSON.stringify(isBehind ? await askBehind(node, calls, lag) : await post(node, calls)));
    })().catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    lag(lag) {
      current = lag;
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

const rpc = { id: 1, jsonrpc: '2.0' };

async function post(node: string, calls: readonly Call[]): Promise<Answer[]> {
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(node, { method: 'POST', headers, body: JSON.stringify(calls) });
  return (await answer.json()) as Answer[];
}

async function askBehind(node: string, calls: readonly Call[], lag: Lag): Promise<Answer[]> {
  const answers: Answer[] = [];
  for (const call of calls) answers.push(await askOne(node, call, lag));
  return answers;
}

async function askOne(node: string, call: Call, lag: Lag): Promise<Answer> {
  const { id, method } = call;
  const params = structuredClone(call.params);
  const last = numberToHex(lag.block);
  if (method === 'eth_blockNumber') return { id, result: last };
  if (method === 'eth_call' || method === 'eth_getTransactionCount') {
    const known = await findBlock(node, params[1], lag.block);
    if (!known && !lag.isCareless) return { id, error: { code: -32_000, message: 'header not found' } };
    params[1] = known ?? last;
  }
  if (method === 'eth_getBlockByNumber' && (params[0] === 'latest' || params[0] === 'pending'))
    params[0] = last;
  if (method === 'eth_getLogs') (params[0] as { toBlock: string }).toBlock = last;
  const [answer] = await post(node, [{ ...call, params }]);
  const { number, blockNumber } = (answer?.result ?? {}) as { number?: Hex; blockNumber?: Hex };
  const place = method === 'eth_getBlockByNumber' ? number : blockNumber;
  const isThere = place === undefined || hexToBigInt(place) <= lag.block;
  return isThere && answer ? answer : { id, result: null };
}

/** The number of the block that is asked for; nothing where the node behind hasn't got it. */
async function findBlock(node: string, named: unknown, last: bigint): Promise<Hex | undefined> {
  if (named === 'latest' || named === 'pending') return numberToHex(last);
  const params =
    typeof named === 'string' ? [named, false] : [(named as { blockHash: Hex }).blockHash, false];
  const method = typeof named === 'string' ? 'eth_getBlockByNumber' : 'eth_getBlockByHash';
  const [answer] = await post(node, [{ ...rpc, method, params }]);
  const { number } = (answer?.result ?? {}) as { number?: Hex };
  return number !== undefined && hexToBigInt(number) <= last ? number : undefined;
}
