import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough } from 'node:stream';

import { errors, Pool } from 'undici';
import type { buildConnector, Dispatcher } from 'undici';

import { EgressRefusedError } from '../kernel/egress.ts';
import type { RawHeaders } from './headers.ts';

export interface ForwardLimits {
  /** Upstream origins with open connections at a time. */
  originsMax: number;
  /** Calls in flight to one origin; a slow upstream holds no more than these. */
  callsPerOriginMax: number;
  /** An origin without a call for this long is let go. */
  originIdleMs: number;
}

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

/** Sends calls upstream. Trouble upstream is an outcome; a promise rejects only when the request itself is malformed. */
export interface Forwarder {
  readonly forwardBuffered: (call: BufferedCall) => Promise<BufferedOutcome>;
  readonly forwardStreaming: (call: StreamingCall) => Promise<StreamingOutcome>;
  /** Lets calls in flight finish, and takes no more. */
  readonly close: () => Promise<void>;
  /** Cuts calls in flight; they end as `reset`. */
  readonly destroy: () => Promise<void>;
}

/** What becomes of one exchange. Exactly one of `end`, `failed` and `malformed` is called, once, unless the exchange is dropped. */
interface Sink {
  head(status: number, headers: string[]): void;
  data(chunk: Buffer, controller: Dispatcher.DispatchController): void;
  end(): void;
  failed(failure: UpstreamFailure): void;
  malformed(error: Error): void;
}

interface Exchange {
  fail(failure: UpstreamFailure): void;
  /** Ends it without telling the sink. */
  drop(): void;
}

/** Makes the forwarder. `connect` opens each connection, so the address guard (invariant 9) stands there. */
export function createForwarder(options: {
  connect: buildConnector.connector;
  limits: ForwardLimits;
}): Forwarder {
  const pools = createPools(options.connect, options.limits);

  return {
    forwardBuffered: (call) =>
      new Promise((resolve, reject) => forwardBuffered(pools, call, resolve, reject)),
    forwardStreaming: (call) =>
      new Promise((resolve, reject) => forwardStreaming(pools, call, resolve, reject)),
    close: () => pools.end((pool) => pool.close()),
    destroy: () => pools.end((pool) => pool.destroy()),
  };
}

function forwardBuffered(
  pools: Pools,
  call: BufferedCall,
  resolve: (outcome: BufferedOutcome) => void,
  reject: (error: Error) => void,
): void {
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
}

function forwardStreaming(
  pools: Pools,
  call: StreamingCall,
  resolve: (outcome: StreamingOutcome) => void,
  reject: (error: Error) => void,
): void {
  const { request, response } = call;
  // The client may have left while the caller was still matching; then no 'close' will tell.
  if (response.destroyed) return resolve({ kind: 'client_left' });

  const upload = requestBody(request);
  let status = 0;
  let bodyBytes = 0;
  let reading: Dispatcher.DispatchController | undefined;

  const headers = upload === null ? call.headers : [...call.headers, ...lengthHeader(request)];
  const exchange = startExchange(pools, { ...call, headers }, upload, {
    head(receivedStatus, receivedHeaders) {
      status = receivedStatus;
      const chosen = chooseHead(receivedHeaders);
      if (chosen === undefined) return;
      clearTimeout(timer);
      timer = setTimeout(() => timedOut('the body paused', call.idleTimeoutMs), call.idleTimeoutMs);
      sendHead(response, status, [...chosen, ...declaredLength(receivedHeaders)]);
    },
    data(chunk, controller) {
      bodyBytes += chunk.length;
      timer.refresh();
      reading = controller;
      if (!response.write(chunk)) controller.pause();
    },
    end() {
      stop();
      response.end();
      resolve({ kind: 'response', status, bodyBytes });
    },
    failed(failure) {
      stop();
      const { headersSent: headSent } = response;
      if (headSent) response.destroy();
      resolve({ kind: 'failed', headSent, ...failure });
    },
    malformed(error) {
      stop();
      reject(error);
    },
  });

  const timedOut = (what: string, ms: number) =>
    exchange.fail({ reason: 'timeout', detail: `${what} for more than ${ms} ms` });
  let timer = setTimeout(() => timedOut('no headers', call.headTimeoutMs), call.headTimeoutMs);
  response.on('drain', onDrain);
  response.on('close', onClose);

  function chooseHead(receivedHeaders: string[]): RawHeaders | undefined {
    try {
      const chosen = call.onHead({ status, headers: receivedHeaders });
      if (chosen !== null) return chosen;
      resolve({ kind: 'declined', status });
    } catch (error) {
      reject(error instanceof Error ? error : new Error('onHead failed', { cause: error }));
    }
    stop();
    exchange.drop();
    return undefined;
  }

  function onDrain() {
    timer.refresh();
    reading?.resume();
  }

  function onClose() {
    stop();
    exchange.drop();
    resolve({ kind: 'client_left' });
  }

  function stop() {
    clearTimeout(timer);
    response.off('drain', onDrain);
    response.off('close', onClose);
    if (upload !== null) {
      // Node drops an upload only if nobody has begun to read it, and the client's next request waits behind this one.
      request.unpipe(upload);
      request.resume();
    }
  }
}

function sendHead(response: ServerResponse, status: number, headers: string[]): void {
  // Corked, so that a body that is already there leaves in the same packet; one that isn't doesn't hold up the head.
  response.cork();
  response.writeHead(status, headers);
  response.flushHeaders();
  process.nextTick(() => response.uncork());
}

/** Sends one request through its origin's pool. A sink is never called before this has returned. */
function startExchange(
  pools: Pools,
  request: UpstreamRequest,
  body: Buffer | PassThrough | null,
  sink: Sink,
): Exchange {
  let ended = false;
  let controller: Dispatcher.DispatchController | undefined;

  function finish(tell: () => void): void {
    if (ended) return;
    ended = true;
    tell();
  }
  function abort(): void {
    // Without a controller the request still waits for its connection, and is aborted when that is there.
    controller?.abort(new Error('given up'));
  }
  const exchange: Exchange = {
    fail(failure) {
      finish(() => sink.failed(failure));
      abort();
    },
    drop() {
      ended = true;
      abort();
    },
  };

  const send = (pool: Pool, release: () => void) =>
    pool.dispatch(
      { path: request.target, method: request.method, headers: [...request.headers], body },
      {
        onRequestStart(started) {
          controller = started;
          if (ended) abort();
        },
        onResponseStart(started, status) {
          // Informational answers (RFC 9110 section 15.2) come before the one that counts.
          if (ended || status < 200) return;
          sink.head(status, headerText(started.rawHeaders));
          // undici would still hold a 304 to the length that it declares (RFC 9110 section 8.6 lets it declare one).
          if (!hasBody(request.method, status)) finish(() => sink.end());
        },
        onResponseData(started, chunk) {
          if (!ended) sink.data(chunk, started);
        },
        onResponseEnd() {
          release();
          finish(() => sink.end());
        },
        onResponseError(_started, error) {
          release();
          if (isMalformedRequest(error)) finish(() => sink.malformed(error));
          else finish(() => sink.failed(failureOf(error, controller !== undefined)));
        },
      },
    );

  queueMicrotask(() => {
    const lease = ended ? undefined : pools.lease(request.origin);
    if (lease === undefined) return;
    if (lease.kind === 'busy') exchange.fail({ reason: 'busy', detail: lease.detail });
    else if (lease.kind === 'malformed') finish(() => sink.malformed(lease.error));
    else send(lease.pool, lease.release);
  });
  return exchange;
}

type Lease =
  | { readonly kind: 'leased'; readonly pool: Pool; readonly release: () => void }
  | { readonly kind: 'busy'; readonly detail: string }
  | { readonly kind: 'malformed'; readonly error: Error };

interface Pools {
  lease(origin: string): Lease;
  end(endPool: (pool: Pool) => Promise<void>): Promise<void>;
}

/** One undici pool for each origin: the longest unused makes room for a new one, and idle ones are closed. */
function createPools(connect: buildConnector.connector, limits: ForwardLimits): Pools {
  // In order of last use, the oldest first.
  const entries = new Map<string, { pool: Pool; calls: number; usedAt: number }>();
  // Closing or not, a pool is here until it has ended, so that `end` waits for it.
  const open = new Set<Pool>();
  let ended = false;

  function letGo(origin: string, pool: Pool): void {
    entries.delete(origin);
    void pool.close().finally(() => open.delete(pool));
  }
  function letGoOfOneUnused(): boolean {
    for (const [origin, { pool, calls }] of entries) {
      if (calls > 0) continue;
      letGo(origin, pool);
      return true;
    }
    return false;
  }
  const sweep = setInterval(
    () => {
      for (const [origin, { pool, calls, usedAt }] of entries) {
        if (calls === 0 && performance.now() - usedAt >= limits.originIdleMs) letGo(origin, pool);
      }
    },
    Math.max(limits.originIdleMs / 2, 10),
  ).unref();

  function openPool(origin: string): Pool {
    // Time is kept by the caller for the whole call, so undici's own time-outs are off.
    const pool = new Pool(origin, {
      connect,
      connections: limits.callsPerOriginMax,
      pipelining: 1,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
    open.add(pool);
    return pool;
  }

  return {
    lease(origin) {
      if (ended) return { kind: 'busy', detail: 'the forwarder is closing' };
      let entry = entries.get(origin);
      if (entry === undefined) {
        if (entries.size >= limits.originsMax && !letGoOfOneUnused()) {
          return { kind: 'busy', detail: `${limits.originsMax} upstreams are being called` };
        }
        try {
          entry = { pool: openPool(origin), calls: 0, usedAt: 0 };
        } catch (error) {
          return { kind: 'malformed', error: new TypeError(`not an origin: ${origin}`, { cause: error }) };
        }
      }
      if (entry.calls >= limits.callsPerOriginMax) {
        return { kind: 'busy', detail: `${entry.calls} calls to ${origin} are in flight` };
      }
      const leased = entry;
      entries.delete(origin);
      entries.set(origin, leased);
      leased.calls += 1;
      let released = false;
      const release = () => {
        if (released) return;
        released = true;
        leased.calls -= 1;
        leased.usedAt = performance.now();
      };
      return { kind: 'leased', pool: leased.pool, release };
    },
    async end(endPool) {
      ended = true;
      clearInterval(sweep);
      entries.clear();
      await Promise.all([...open].map(endPool));
      open.clear();
    },
  };
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

/** The client's upload, or null if it announced none (RFC 9112 section 6.3). */
function requestBody(request: IncomingMessage): PassThrough | null {
  const { 'content-length': length, 'transfer-encoding': coding } = request.headers;
  if (coding === undefined && (length === undefined || Number(length) === 0)) return null;
  // Between them, because undici destroys the body of a failed request, and with it the connection that we answer on.
  return request.pipe(new PassThrough());
}

function lengthHeader(request: IncomingMessage): string[] {
  const length = request.headers['content-length'];
  return length === undefined ? [] : ['content-length', length];
}

/** Node's parser has refused a length that is no number, or that differs from another. */
function contentLength(headers: RawHeaders): string | undefined {
  const index = headers.findIndex((name, at) => at % 2 === 0 && name.toLowerCase() === 'content-length');
  return index === -1 ? undefined : headers[index + 1];
}

function declaredLength(headers: RawHeaders): string[] {
  const length = contentLength(headers);
  return length === undefined ? [] : ['content-length', length];
}

/** RFC 9112 section 6.3, rule 1. */
function hasBody(method: string, status: number): boolean {
  return method !== 'HEAD' && status !== 204 && status !== 304;
}

function headerText(raw: Dispatcher.DispatchController['rawHeaders']): string[] {
  if (!Array.isArray(raw)) return [];
  return raw.map((part) => (typeof part === 'string' ? part : part.toString('latin1')));
}
