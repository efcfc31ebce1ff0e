import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';

import type { Dispatcher } from 'undici';

import { startExchange, type UpstreamFailure, type UpstreamRequest } from './exchange.ts';
import { contentLength } from './framing.ts';
import type { RawHeaders } from './headers.ts';
import type { Pools } from './upstream-pools.ts';

export interface StreamingCall extends UpstreamRequest {
  /** Its body is streamed along, with its Content-Length if it has one. */
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Until the upstream's headers are there, the upload included. */
  readonly headTimeoutMs: number;
  /** Longest pause in the body, whether the upstream doesn't send or the client doesn't read. */
  readonly idleTimeoutMs: number;
  /** Chooses the headers for the client, or declines the answer (null): then nothing is written, and the caller answers. */
  onHead(head: { readonly status: number; readonly headers: string[] }): RawHeaders | null;
}

export type StreamingOutcome =
  | { readonly kind: 'response'; readonly status: number; readonly bodyBytes: number }
  | { readonly kind: 'declined'; readonly status: number }
  | { readonly kind: 'client_left' }
  /** With `headSent` the client's connection was cut, so that it can't take a part for the whole. */
  | ({ readonly kind: 'failed'; readonly headSent: boolean } & UpstreamFailure);

/** Sends a call and streams its answer to the client as it comes. Rejects only where the request itself is malformed. */
export function forwardStreaming(pools: Pools, call: StreamingCall): Promise<StreamingOutcome> {
  const { promise, resolve, reject } = Promise.withResolvers<StreamingOutcome>();
  const { response } = call;
  // The client may have left while the caller was still matching; then no 'close' will tell.
  if (response.destroyed) return Promise.resolve({ kind: 'client_left' });

  const upload = openUpload(call.request);
  const deadline = createDeadline((detail) => exchange.fail({ reason: 'timeout', detail }));
  const flow = createFlow(response);
  let status = 0;

  const headers = [...call.headers, ...upload.headers];
  const exchange = startExchange(pools, { ...call, headers }, upload.body, {
    head(receivedStatus, receivedHeaders) {
      status = receivedStatus;
      const chosen = chooseHead(call, status, receivedHeaders);
      if (chosen.kind === 'chosen') {
        deadline.start('the body paused', call.idleTimeoutMs);
        return sendHead(response, status, [...chosen.headers, ...declaredLength(receivedHeaders)]);
      }
      exchange.drop();
      if (chosen.kind === 'declined') finish({ kind: 'declined', status });
      else fail(chosen.error);
    },
    data(chunk, controller) {
      deadline.refresh();
      flow.write(chunk, controller);
    },
    end() {
      finish({ kind: 'response', status, bodyBytes: flow.bytes() });
      response.end();
    },
    failed(failure) {
      const { headersSent: headSent } = response;
      finish({ kind: 'failed', headSent, ...failure });
      if (headSent) response.destroy();
    },
    malformed: fail,
  });
  deadline.start('no headers', call.headTimeoutMs);
  const client = watchClient(response, {
    drained() {
      deadline.refresh();
      flow.resume();
    },
    left() {
      exchange.drop();
      finish({ kind: 'client_left' });
    },
  });

  const stop = () => [deadline, client, upload].forEach((part) => part.stop());
  function finish(outcome: StreamingOutcome): void {
    stop();
    resolve(outcome);
  }
  function fail(error: unknown): void {
    stop();
    reject(error);
  }
  return promise;
}

/** Asks the caller for the client's headers; what it throws is the caller's own trouble, and no answer of the upstream. */
function chooseHead(
  call: StreamingCall,
  status: number,
  headers: string[],
): { kind: 'chosen'; headers: RawHeaders } | { kind: 'declined' } | { kind: 'threw'; error: unknown } {
  try {
    const chosen = call.onHead({ status, headers });
    return chosen === null ? { kind: 'declined' } : { kind: 'chosen', headers: chosen };
  } catch (error) {
    return { kind: 'threw', error };
  }
}

function createDeadline(passed: (detail: string) => void) {
  let timer: NodeJS.Timeout | undefined;
  return {
    start(what: string, ms: number) {
      clearTimeout(timer);
      timer = setTimeout(() => passed(`${what} for more than ${ms} ms`), ms);
    },
    refresh() {
      timer?.refresh();
    },
    stop() {
      clearTimeout(timer);
    },
  };
}

function watchClient(response: ServerResponse, client: { drained(): void; left(): void }) {
  const { drained, left } = client;
  response.on('drain', drained);
  response.on('close', left);
  return {
    stop() {
      response.off('drain', drained);
      response.off('close', left);
    },
  };
}

/** Writes as fast as the client reads, and keeps count. */
function createFlow(response: ServerResponse) {
  let bytes = 0;
  let reading: Dispatcher.DispatchController | undefined;
  return {
    bytes: () => bytes,
    write(chunk: Buffer, controller: Dispatcher.DispatchController) {
      bytes += chunk.length;
      reading = controller;
      if (!response.write(chunk)) controller.pause();
    },
    resume() {
      reading?.resume();
    },
  };
}

function sendHead(response: ServerResponse, status: number, headers: string[]): void {
  // Corked, so that a body that is already there leaves in the same packet; one that isn't doesn't hold up the head.
  response.cork();
  response.writeHead(status, headers);
  response.flushHeaders();
  process.nextTick(() => response.uncork());
}

/** The client's upload, if it announced one (RFC 9112 section 6.3), with the header that says its length. */
function openUpload(request: IncomingMessage) {
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers;
  if (coding === undefined && (length === undefined || Number(length) === 0)) {
    return { body: null, headers: [], stop: () => undefined };
  }
  // Between them, because undici destroys the body of a failed request, and with it the connection that we answer on.
  const body = request.pipe(new PassThrough());
  return {
    body,
    headers: length === undefined ? [] : ['content-length', length],
    stop() {
      // Node drops an upload only if nobody has begun to read it, and the client's next request waits behind this one.
      request.unpipe(body);
      request.resume();
    },
  };
}

function declaredLength(headers: RawHeaders): string[] {
  const length = contentLength(headers);
  return length === undefined ? [] : ['content-length', length];
}
