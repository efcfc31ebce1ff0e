import { Pool } from 'undici';
import type { Address, Hex } from 'viem';

/** The chain can't be asked at the moment: no connection, no answer in time, or an answer that isn't one. */
export class ChainUnavailableError extends Error {
  override name = 'ChainUnavailableError';
}

/** A view of an EIP-3009 token, or whether the payer has code: 1 or 0. */
export type TokenCall =
  | { method: 'hasCode'; payer: Address }
  | { method: 'authorizationState'; payer: Address; nonce: Hex }
  | { method: 'balanceOf'; payer: Address };

/** The first four bytes of the hash of each view's signature. */
const selectors = { authorizationState: '0xe94a0102', balanceOf: '0x70a08231' } as const;

/** An answer has some 110 bytes; an error's text may be longer. */
const responseBytesMax = 1024 * 1024;
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

/**
 * Asks a token through JSON-RPC, many views in one HTTP request, over connections that are kept. Each answer is one word,
 * or an error of its own. Throws `ChainUnavailableError` where there are no answers, after one retry if the connection failed.
 */
export function createRpcBatch(options: {
  rpcUrl: string;
  token: Address;
  timeoutMs: number;
}): (calls: readonly TokenCall[]) => Promise<(bigint | ChainUnavailableError)[]> {
  const { origin, pathname, search, username, password } = new URL(options.rpcUrl);
  const pool = new Pool(origin, { keepAliveTimeout: keepAliveMs, maxResponseSize: responseBytesMax });
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
    const body = JSON.stringify(calls.map((call, id) => encodeCall(options.token, call, id)));
    const signal = AbortSignal.timeout(options.timeoutMs);
    try {
      const answer = await post(body, signal).catch((error: unknown) => {
        if (!isConnectionError(error)) throw error;
        return post(body, signal);
      });
      return decodeAnswers(answer, calls);
    } catch (error) {
      if (error instanceof ChainUnavailableError) throw error;
      const why = signal.aborted ? `no answer within ${options.timeoutMs} ms` : 'no answer';
      throw new ChainUnavailableError(`the RPC gave ${why}`, { cause: error });
    }
  };
}

function encodeCall(token: Address, call: TokenCall, id: number): object {
  if (call.method === 'hasCode') {
    return { jsonrpc: '2.0', id, method: 'eth_getCode', params: [call.payer, 'latest'] };
  }
  // The contract ABI: a selector, then one word of 32 bytes for each argument.
  const payer = call.payer.slice(2).toLowerCase().padStart(64, '0');
  const nonce = call.method === 'authorizationState' ? call.nonce.slice(2) : '';
  const data = selectors[call.method] + payer + nonce;
  return { jsonrpc: '2.0', id, method: 'eth_call', params: [{ to: token, data }, 'latest'] };
}

/** Puts the answers, which come in any order, back into the order of the calls. */
function decodeAnswers(answer: unknown, calls: readonly TokenCall[]): (bigint | ChainUnavailableError)[] {
  // A batch that is refused as a whole is answered by one error object.
  if (!Array.isArray(answer)) throw toError(answer);
  const unanswered = new ChainUnavailableError('the RPC left a call unanswered');
  const answers = calls.map((): bigint | ChainUnavailableError => unanswered);
  for (const item of answer as unknown[]) {
    const { id, result } = (item ?? {}) as { id?: unknown; result?: unknown };
    if (typeof id !== 'number' || !(id in answers)) continue;
    if (calls[id]?.method === 'hasCode') {
      const isCode = typeof result === 'string' && /^0x(?:[0-9a-f]{2})*$/i.test(result);
      answers[id] = isCode ? BigInt(result !== '0x') : toError(item);
      continue;
    }
    // An address without code answers `0x`: no balance of zero, and no unused nonce.
    const isWord = typeof result === 'string' && /^0x[0-9a-f]{64}$/i.test(result);
    answers[id] = isWord ? BigInt(result) : toError(item);
  }
  return answers;
}

function toError(answer: unknown): ChainUnavailableError {
  const { error } = (answer ?? {}) as { error?: { message?: unknown } };
  const text = typeof error?.message === 'string' ? error.message : 'not an answer to eth_call';
  return new ChainUnavailableError(`the RPC refused: ${text}`);
}

function isConnectionError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && connectionErrors.has(error.code);
}
