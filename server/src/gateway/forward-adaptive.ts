import type { AnswerMemory, HeldAnswer } from './answer-memory.ts';
import { createChunks } from './chunks.ts';
import { startExchange, type Sink, type UpstreamFailure, type UpstreamRequest } from './exchange.ts';
import { contentLength, hasBody, isEventStream } from './framing.ts';
import { holdStream, type HeldStream } from './held-stream.ts';
import type { Pools } from './upstream-pools.ts';

export interface AdaptiveCall extends UpstreamRequest {
  readonly body: Buffer | null;
  /** For waiting, connecting and headers; for the body as well while it is being collected. */
  readonly timeoutMs: number;
  /** The most that is collected. */
  readonly bufferBytesMax: number;
  /** Longest pause of a stream that is being piped, whether the upstream doesn't send or the client doesn't read. */
  readonly idleTimeoutMs: number;
  /** Where what is collected is held: without room an answer is streamed if it may be, and fails as `busy` if not. */
  readonly memory: AnswerMemory;
  readonly held: HeldAnswer;
  /**
   * What the caller wants of an answer with this status: a stream where it is one (server-sent events, or a body above
   * `bufferBytesMax`), or the whole body, or none.
   */
  wants(status: number): 'stream' | 'whole' | 'nothing';
}

export type AdaptiveOutcome =
  | WholeResponse
  | HeldStream
  /** `too_large` only where no stream is wanted. */
  | ({ readonly kind: 'failed' } & UpstreamFailure);

interface WholeResponse {
  readonly kind: 'response';
  readonly status: number;
  readonly headers: string[];
  readonly body: Buffer;
}

/** Sends a call, and resolves as soon as its answer is known to be whole or a stream. Rejects only where the request itself is malformed. */
export function forwardAdaptive(pools: Pools, call: AdaptiveCall): Promise<AdaptiveOutcome> {
  const { promise, resolve, reject } = Promise.withResolvers<AdaptiveOutcome>();
  const { bufferBytesMax, timeoutMs } = call;
  const chunks = createChunks();
  let status = 0;
  let seenBytes = 0;
  let headers: string[] = [];
  let wanted: ReturnType<AdaptiveCall['wants']> = 'whole';
  let bodySink: Pick<Sink, 'data' | 'end' | 'failed'> | undefined;

  function startStream(): void {
    clearTimeout(timer);
    const held = holdStream(exchange, { status, headers }, chunks.take(), call);
    bodySink = held.sink;
    resolve(held.stream);
  }
  function stopCollecting(failure: UpstreamFailure): void {
    if (wanted === 'stream') startStream();
    else exchange.fail(failure);
  }
  const exchange = startExchange(pools, call, call.body, {
    head(receivedStatus, receivedHeaders) {
      status = receivedStatus;
      headers = receivedHeaders;
      if (!hasBody(call.method, status)) return;
      wanted = call.wants(status);
      // The rest is read for its connection's sake, within the same limits; what becomes of it tells nobody anything.
      if (wanted === 'nothing') resolve({ kind: 'response', status, headers, body: Buffer.alloc(0) });
      if (Number(contentLength(headers) ?? 0) > bufferBytesMax)
        return stopCollecting(tooLarge(bufferBytesMax));
      if (wanted === 'stream' && isEventStream(headers)) startStream();
    },
    data(chunk, controller) {
      if (!bodySink) {
        seenBytes += chunk.length;
        const hindrance = findHindrance(call, wanted, seenBytes, chunk.length);
        if (!hindrance) return wanted === 'nothing' ? undefined : chunks.push(chunk);
        stopCollecting(hindrance);
      }
      bodySink?.data(chunk, controller);
    },
    end() {
      clearTimeout(timer);
      if (bodySink) return bodySink.end();
      const body = Buffer.concat(chunks.take(), chunks.bytes());
      resolve({ kind: 'response', status, headers, body });
    },
    failed(failure) {
      clearTimeout(timer);
      if (bodySink) bodySink.failed(failure);
      else resolve({ kind: 'failed', ...failure });
    },
    malformed(error) {
      clearTimeout(timer);
      reject(error);
    },
  });
  const timer = setTimeout(() => exchange.fail(tooLate(timeoutMs)), timeoutMs);
  return promise;
}

/** What keeps one more part from being collected; where nothing does, its bytes are taken. */
function findHindrance(
  { bufferBytesMax, memory, held }: AdaptiveCall,
  wanted: ReturnType<AdaptiveCall['wants']>,
  seenBytes: number,
  chunkBytes: number,
): UpstreamFailure | undefined {
  if (seenBytes > bufferBytesMax) return tooLarge(bufferBytesMax);
  if (wanted === 'nothing' || memory.take(held, chunkBytes)) return undefined;
  return { reason: 'busy', detail: 'the memory for answers is full' };
}

function tooLarge(bytesMax: number): UpstreamFailure {
  return { reason: 'too_large', detail: `the body is larger than ${bytesMax} bytes` };
}

function tooLate(ms: number): UpstreamFailure {
  return { reason: 'timeout', detail: `no complete answer within ${ms} ms` };
}
