import type { PassThrough } from 'node:stream';

import { errors } from 'undici';
import type { Dispatcher } from 'undici';

import { EgressRefusedError } from '../kernel/egress.ts';
import { hasBody } from './framing.ts';
import type { RawHeaders } from './headers.ts';
import type { Pools } from './upstream-pools.ts';

/** A request as it goes out: nothing is added but `Host`, `Connection` and the length of the body. */
export interface UpstreamRequest {
  /** Such as `https://api.example.com:8443`. */
  readonly origin: string;
  readonly method: string;
  /** Path and query, as written on the wire. */
  readonly target: string;
  readonly headers: RawHeaders;
}

export interface UpstreamFailure {
  readonly reason:
    | 'timeout'
    /** The connection ended in the middle of the call. */
    | 'reset'
    /** The address guard refused each address of the origin; nothing was sent. */
    | 'refused_address'
    | 'too_large'
    /** No connection; nothing was sent. */
    | 'connect'
    /** Not HTTP, or not the length that it says. */
    | 'invalid_response'
    /** Our own limit of calls or origins is reached; nothing was sent. */
    | 'busy';
  /** For logs and the seller; it may name addresses that a client has no business to know. */
  readonly detail: string;
}

/** What becomes of one exchange. Exactly one of `end`, `failed` and `malformed` is called, once, unless the exchange is dropped. */
export interface Sink {
  head(status: number, headers: string[]): void;
  data(chunk: Buffer, controller: Dispatcher.DispatchController): void;
  end(): void;
  failed(failure: UpstreamFailure): void;
  malformed(error: Error): void;
}

export interface Exchange {
  fail(failure: UpstreamFailure): void;
  /** Ends it without telling the sink. */
  drop(): void;
}

/** An exchange as it stands. */
interface Running {
  readonly method: string;
  readonly sink: Sink;
  ended: boolean;
  controller: Dispatcher.DispatchController | undefined;
}

/** Sends one request through its origin's pool. A sink is never called before this has returned. */
export function startExchange(
  pools: Pools,
  request: UpstreamRequest,
  body: Buffer | PassThrough | null,
  sink: Sink,
): Exchange {
  const running: Running = { method: request.method, sink, ended: false, controller: undefined };
  const exchange: Exchange = {
    fail(failure) {
      if (endOnce(running)) sink.failed(failure);
      abort(running);
    },
    drop() {
      running.ended = true;
      abort(running);
    },
  };
  queueMicrotask(() => {
    if (running.ended) return;
    const lease = pools.lease(request.origin);
    if (lease.kind === 'busy') return exchange.fail({ reason: 'busy', detail: lease.detail });
    if (lease.kind === 'malformed') return endOnce(running) ? sink.malformed(lease.error) : undefined;
    const { target: path, method, headers } = request;
    lease.pool.dispatch({ path, method, headers: [...headers], body }, handlerOf(running, lease.release));
  });
  return exchange;
}

/** What undici tells, as far as the exchange still wants to hear it. `release` gives the place in the pool back. */
function handlerOf(running: Running, release: () => void): Dispatcher.DispatchHandler {
  const { sink } = running;
  return {
    onRequestStart(controller) {
      running.controller = controller;
      if (running.ended) abort(running);
    },
    onResponseStart(controller, status) {
      // Informational answers (RFC 9110 section 15.2) come before the one that counts.
      if (running.ended || status < 200) return;
      sink.head(status, headerText(controller.rawHeaders));
      // undici would still hold a 304 to the length that it declares (RFC 9110 section 8.6 lets it declare one).
      if (!hasBody(running.method, status) && endOnce(running)) sink.end();
    },
    onResponseData(controller, chunk) {
      if (!running.ended) sink.data(chunk, controller);
    },
    onResponseEnd() {
      release();
      if (endOnce(running)) sink.end();
    },
    onResponseError(_controller, error) {
      release();
      if (!endOnce(running)) return;
      if (isMalformedRequest(error)) sink.malformed(error);
      else sink.failed(failureOf(error, running.controller !== undefined));
    },
  };
}

/** Whether this is what ends the exchange: whatever comes after isn't told. */
function endOnce(running: Running): boolean {
  const isFirst = !running.ended;
  running.ended = true;
  return isFirst;
}

function abort({ controller }: Running): void {
  // Without a controller the request still waits for its connection, and is aborted when that is there.
  controller?.abort(new Error('given up'));
}

function failureOf(error: Error, sent: boolean): UpstreamFailure {
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  const detail = code === '' ? error.message : `${code}: ${error.message}`;
  if (error instanceof EgressRefusedError) return { reason: 'refused_address', detail: error.message };
  if (code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT') return { reason: 'timeout', detail };
  const isInvalid =
    error instanceof errors.HTTPParserError ||
    code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH' ||
    code === 'UND_ERR_HEADERS_OVERFLOW' ||
    // undici asserts that a status is at least 100.
    code === 'ERR_ASSERTION' ||
    // undici's words for a 101 or 100 that nobody asked for, and for bytes that belong to no request.
    (code === 'UND_ERR_SOCKET' && /^bad (response|upgrade)$/.test(error.message));
  if (isInvalid) return { reason: 'invalid_response', detail };
  return { reason: sent ? 'reset' : 'connect', detail };
}

function isMalformedRequest(error: Error): boolean {
  return 'code' in error && (error.code === 'UND_ERR_INVALID_ARG' || error.code === 'UND_ERR_NOT_SUPPORTED');
}

function headerText(raw: Dispatcher.DispatchController['rawHeaders']): string[] {
  if (!Array.isArray(raw)) return [];
  return raw.map((part) => (typeof part === 'string' ? part : part.toString('latin1')));
}
