import type { ServerResponse } from 'node:http';

import type { UpstreamFailure } from './exchange.ts';
import type { RawHeaders } from './headers.ts';

/** How the streaming of an answer to its client ended. */
export type StreamEnd =
  | { readonly kind: 'response'; readonly status: number; readonly bodyBytes: number }
  | { readonly kind: 'client_left' }
  /** With `headSent` the client's connection was cut, so that it can't take a part for the whole; without, the caller answers. */
  | ({ readonly kind: 'failed'; readonly headSent: boolean } & UpstreamFailure);

/** The client's end of a streamed answer. */
export interface Outlet {
  /** Sends the head at once, and starts the time for the body. */
  open(status: number, headers: RawHeaders): void;
  /** Whether the client takes more; if not, `drained` tells when it does. */
  write(chunk: Buffer): boolean;
  /** Of the body, as written. */
  bytes(): number;
  end(): void;
  /** Lets out what was written, and then cuts the connection. */
  cut(): void;
  /** Lets go of the response as it is. */
  stop(): void;
}

interface OutletEvents {
  drained(): void;
  /** Nothing was written or read for the idle time; it is for the listener to cut. */
  idle(detail: string): void;
  left(): void;
}

/** Watches the client from now on; `idleTimeoutMs` is the longest pause in the body, whichever side pauses. */
export function createOutlet(response: ServerResponse, idleTimeoutMs: number, events: OutletEvents): Outlet {
  let bytes = 0;
  let unwritten = 0;
  let isCutting = false;
  let isIdle = false;
  let timer: NodeJS.Timeout | undefined;

  function drained(): void {
    timer?.refresh();
    if (!isCutting) events.drained();
  }
  function left(): void {
    stop();
    if (!isCutting) events.left();
  }
  function idle(): void {
    isIdle = true;
    if (isCutting) destroy();
    else events.idle(`the body paused for more than ${idleTimeoutMs} ms`);
  }
  function stop(): void {
    clearTimeout(timer);
    response.off('drain', drained);
    response.off('close', left);
  }
  function destroy(): void {
    stop();
    // To a client of HTTP/1.0 the end of the connection is the end of the body, but for a reset (RFC 9112 section 8).
    if (response.req.httpVersion === '1.0') response.socket?.resetAndDestroy();
    else response.destroy();
  }
  function written(): void {
    unwritten -= 1;
    if (isCutting && unwritten === 0) destroy();
  }

  response.on('drain', drained);
  response.on('close', left);
  return {
    open(status, headers) {
      timer = setTimeout(idle, idleTimeoutMs);
      sendHead(response, status, headers);
    },
    write(chunk) {
      timer?.refresh();
      bytes += chunk.length;
      unwritten += 1;
      return response.write(chunk, written);
    },
    bytes: () => bytes,
    end() {
      stop();
      response.end();
    },
    cut() {
      isCutting = true;
      if (isIdle || unwritten === 0) destroy();
    },
    stop,
  };
}

function sendHead(response: ServerResponse, status: number, headers: RawHeaders): void {
  response.writeHead(status, [...headers]);
  // Corked, so that a body that is already there leaves in the same packet; one that isn't doesn't hold up the head.
  response.cork();
  response.flushHeaders();
  process.nextTick(() => response.uncork());
}
