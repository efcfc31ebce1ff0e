import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';

import type { Dispatcher } from 'undici';

import { startExchange, type UpstreamFailure, type UpstreamRequest } from './exchange.ts';
import { declaredLength } from './framing.ts';
import type { RawHeaders } from './headers.ts';
import { createOutlet, type Outlet, type StreamEnd } from './outlet.ts';
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

export type StreamingOutcome = StreamEnd | { readonly kind: 'declined'; readonly status: number };

/** Sends a call and streams its answer to the client as it comes. Rejects only where the request itself is malformed. */
export function forwardStreaming(pools: Pools, call: StreamingCall): Promise<StreamingOutcome> {
  const { promise, resolve, reject } = Promise.withResolvers<StreamingOutcome>();
  const { response, headTimeoutMs } = call;
  // The client may have left while the caller was still matching; then no 'close' will tell.
  if (response.destroyed) return Promise.resolve({ kind: 'client_left' });

  const upload = openUpload(call.request);
  let status = 0;
  let reading: Dispatcher.DispatchController | undefined;

  const headers = [...call.headers, ...upload.headers];
  const exchange = startExchange(pools, { ...call, headers }, upload.body, {
    head(receivedStatus, receivedHeaders) {
      clearTimeout(headTimer);
      status = receivedStatus;
      const chosen = chooseHead(call, status, receivedHeaders);
      if (chosen.kind === 'chosen') return outlet.open(status, chosen.headers);
      exchange.drop();
      if (chosen.kind === 'declined') finish({ kind: 'declined', status });
      else fail(chosen.error);
    },
    data(chunk, controller) {
      reading = controller;
      if (!outlet.write(chunk)) controller.pause();
    },
    end() {
      outlet.end();
      finish({ kind: 'response', status, bodyBytes: outlet.bytes() });
    },
    failed(failure) {
      finish({ kind: 'failed', headSent: letGo(response, outlet), ...failure });
    },
    malformed: fail,
  });
  const headTimer = setTimeout(() => exchange.fail(lateHead(headTimeoutMs)), headTimeoutMs);
  const outlet = createOutlet(response, call.idleTimeoutMs, {
    drained: () => reading?.resume(),
    idle: (detail) => exchange.fail({ reason: 'timeout', detail }),
    left() {
      exchange.drop();
      finish({ kind: 'client_left' });
    },
  });

  function finish(outcome: StreamingOutcome): void {
    clearTimeout(headTimer);
    upload.stop();
    if (outcome.kind === 'declined') outlet.stop();
    resolve(outcome);
  }
  function fail(error: unknown): void {
    clearTimeout(headTimer);
    upload.stop();
    outlet.stop();
    reject(error);
  }
  return promise;
}

function lateHead(ms: number): UpstreamFailure {
  return { reason: 'timeout', detail: `no headers for more than ${ms} ms` };
}

/** Lets go of a client whose upstream has failed; gives whether it had its head, and was cut. */
function letGo({ headersSent }: ServerResponse, outlet: Outlet): boolean {
  if (headersSent) outlet.cut();
  else outlet.stop();
  return headersSent;
}

/** Asks the caller for the client's headers; what it throws is the caller's own trouble, and no answer of the upstream. */
function chooseHead(
  call: StreamingCall,
  status: number,
  headers: string[],
): { kind: 'chosen'; headers: RawHeaders } | { kind: 'declined' } | { kind: 'threw'; error: unknown } {
  try {
    const chosen = call.onHead({ status, headers });
    return chosen === null
      ? { kind: 'declined' }
      : { kind: 'chosen', headers: [...chosen, ...declaredLength(headers)] };
  } catch (error) {
    return { kind: 'threw', error };
  }
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
