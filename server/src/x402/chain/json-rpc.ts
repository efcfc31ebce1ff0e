import { Pool } from 'undici';
import type { Hex } from 'viem';

/** The chain can't be asked at the moment: no connection, no answer in time, or an answer that isn't one. */
export class ChainUnavailableError extends Error {
  override name = 'ChainUnavailableError';
}

/** One call of JSON-RPC. */
export interface RpcCall {
  method: string;
  params: readonly unknown[];
}

/** What a call was answered with, or why it wasn't. */
export type RpcAnswer = { error: ChainUnavailableError } | { result: unknown };

/**
 * Asks an RPC, many calls in one HTTP request, over connections that are kept. An answer for each call, in their order. Throws
 * `ChainUnavailableError` where there are no answers at all, after one retry if the connection failed.
 */
export type AskRpc = (calls: readonly RpcCall[]) => Promise<RpcAnswer[]>;

/** A connection that was idle this long may have been closed at the other end without a word. */
const keepAliveMs = 30_000;

/** What undici and the system call a connection that couldn't be made, or was lost. */
const connectionErrors: ReadonlySet<unknown> = new Set([
  'EAI_AGAIN',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_SOCKET',
]);

/** Opens an RPC. Credentials of its URL go into the header that they are meant for. */
export function createRpc(options: { rpcUrl: string; timeoutMs: number; responseBytesMax: number }): AskRpc {
  const { origin, pathname, search, username, password } = new URL(options.rpcUrl);
  const pool = new Pool(origin, {
    keepAliveTimeout: keepAliveMs,
    maxResponseSize: options.responseBytesMax,
  });
  const headers: Record<string, string> = { 'content-type': 'application/json' };
  if (username !== '' || password !== '') {
    const userAndPassword = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    headers['authorization'] = `Basic ${Buffer.from(userAndPassword).toString('base64')}`;
  }

  async function post(body: string, signal: AbortSignal): Promise<unknown> {
    const request = { method: 'POST', path: pathname + search, headers, body, signal } as const;
    const { statusCode, body: answer } = await pool.request(request);
    if (statusCode === 200) return answer.json();
    // Read to its end, so that the connection can be used again.
    await answer.dump();
    throw new ChainUnavailableError(`the RPC answered with status ${statusCode}`);
  }

  return async (calls) => {
    if (calls.length === 0) return [];
    const body = JSON.stringify(calls.map((call, id) => ({ jsonrpc: '2.0', id, ...call })));
    const signal = AbortSignal.timeout(options.timeoutMs);
    try {
      const answer = await post(body, signal).catch((error: unknown) => {
        if (!isConnectionError(error)) throw error;
        return post(body, signal);
      });
      return inOrder(answer, calls.length);
    } catch (error) {
      if (error instanceof ChainUnavailableError) throw error;
      const why = signal.aborted ? `no answer within ${options.timeoutMs} ms` : 'no answer';
      throw new ChainUnavailableError(`the RPC gave ${why}`, { cause: error });
    }
  };
}

/** The result of a call; throws what kept it from having one. */
export function resultOf(answer: RpcAnswer | undefined): unknown {
  if (answer && 'result' in answer) return answer.result;
  throw answer?.error ?? new ChainUnavailableError('the RPC left a call unanswered');
}

/** A quantity as JSON-RPC writes it. Throws `ChainUnavailableError` where it is none. */
export function quantityOf(value: unknown): bigint {
  if (typeof value === 'string' && /^0x[0-9a-f]{1,64}$/i.test(value)) return BigInt(value);
  throw new ChainUnavailableError('the RPC answered something that is no number');
}

/** Bytes as JSON-RPC writes them. Throws `ChainUnavailableError` where they are none. */
export function bytesOf(value: unknown): Hex {
  if (typeof value === 'string' && /^0x(?:[0-9a-f]{2})*$/i.test(value)) return value as Hex;
  throw new ChainUnavailableError('the RPC answered something that is no bytes');
}

/** A hash, in lower case. Throws `ChainUnavailableError` where it is none. */
export function hashOf(value: unknown): Hex {
  if (typeof value === 'string' && /^0x[0-9a-f]{64}$/i.test(value)) return value.toLowerCase() as Hex;
  throw new ChainUnavailableError('the RPC answered something that is no hash');
}

/** Puts the answers, which come in any order, back into the order of the calls. */
function inOrder(answer: unknown, count: number): RpcAnswer[] {
  // A batch that is refused as a whole is answered by one error object.
  if (!Array.isArray(answer)) throw toError(answer);
  const answers = Array.from<RpcAnswer | undefined>({ length: count });
  for (const item of answer as unknown[]) {
    const { id, result } = (item ?? {}) as { id?: unknown; result?: unknown };
    if (typeof id !== 'number' || !(id in answers)) continue;
    answers[id] = result === undefined ? { error: toError(item) } : { result };
  }
  return answers.map((one) => one ?? { error: new ChainUnavailableError('the RPC left a call unanswered') });
}

function toError(answer: unknown): ChainUnavailableError {
  const { error } = (answer ?? {}) as { error?: { message?: unknown } };
  const text = typeof error?.message === 'string' ? error.message : 'not an answer to JSON-RPC';
  return new ChainUnavailableError(`the RPC refused: ${text}`);
}

function isConnectionError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && connectionErrors.has(error.code);
}
