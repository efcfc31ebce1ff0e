import { startExchange, type UpstreamFailure, type UpstreamRequest } from './exchange.ts';
import { contentLength, hasBody } from './framing.ts';
import type { Pools } from './upstream-pools.ts';

export interface BufferedCall extends UpstreamRequest {
  readonly body: Buffer | null;
  /** For all of it: waiting, connecting, headers and body. */
  readonly timeoutMs: number;
  readonly maxResponseBytes: number;
}

export type BufferedOutcome =
  | {
      readonly kind: 'response';
      readonly status: number;
      readonly headers: string[];
      readonly body: Buffer;
    }
  | ({ readonly kind: 'failed' } & UpstreamFailure);

/** Sends a call and collects its answer. Rejects only where the request itself is malformed. */
export function forwardBuffered(pools: Pools, call: BufferedCall): Promise<BufferedOutcome> {
  const { promise, resolve, reject } = Promise.withResolvers<BufferedOutcome>();
  let status = 0;
  let headers: string[] = [];
  const chunks: Buffer[] = [];
  let bytes = 0;
  const tooLarge = () =>
    exchange.fail({ reason: 'too_large', detail: `the body is larger than ${call.maxResponseBytes} bytes` });

  const exchange = startExchange(pools, call, call.body, {
    head(receivedStatus, receivedHeaders) {
      status = receivedStatus;
      headers = receivedHeaders;
      if (hasBody(call.method, status) && Number(contentLength(headers) ?? 0) > call.maxResponseBytes)
        tooLarge();
    },
    data(chunk) {
      bytes += chunk.length;
      if (bytes > call.maxResponseBytes) return tooLarge();
      chunks.push(chunk);
    },
    end() {
      clearTimeout(timer);
      resolve({ kind: 'response', status, headers, body: Buffer.concat(chunks, bytes) });
    },
    failed(failure) {
      clearTimeout(timer);
      resolve({ kind: 'failed', ...failure });
    },
    malformed(error) {
      clearTimeout(timer);
      reject(error);
    },
  });
  const timer = setTimeout(
    () => exchange.fail({ reason: 'timeout', detail: `no complete answer within ${call.timeoutMs} ms` }),
    call.timeoutMs,
  );
  return promise;
}
