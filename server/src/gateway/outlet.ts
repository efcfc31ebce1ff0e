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

/** What is known of the client while it is being written to. */
interface Client {
  readonly response: ServerResponse;
  readonly idleTimeoutMs: number;
  readonly events: OutletEvents;
  readonly onDrain: () => void;
  readonly onClose: () => void;
  bytes: number;
  unwritten: number;
  isCutting: boolean;
  isIdle: boolean;
  timer: NodeJS.Timeout | undefined;
}

/** Watches the client from now on; `idleTimeoutMs` is the longest pause in the body, whichever side pauses. */
export function createOutlet(response: ServerResponse, idleTimeoutMs: number, events: OutletEvents): Outlet {
  const client: Client = {
    response,
    idleTimeoutMs,
    events,
    onDrain: () => drained(client),
    onClose: () => left(client),
    bytes: 0,
    unwritten: 0,
    isCutting: false,
    isIdle: false,
    timer: undefined,
  };
  const onWritten = () => written(client);
  response.on('drain', client.onDrain);
  response.on('close', client.onClose);
  return {
    open(status, headers) {
      client.timer = setTimeout(idle, idleTimeoutMs, client);
      sendHead(response, status, headers);
    },
    write(chunk) {
      client.timer?.refresh();
      client.bytes += chunk.length;
      client.unwritten += 1;
      return response.write(chunk, onWritten);
    },
    bytes: () => client.bytes,
    end() {
      stop(client);
      response.end();
    },
    cut() {
      client.isCutting = true;
      if (client.isIdle || client.unwritten === 0) destroy(client);
    },
    stop: () => stop(client),
  };
}

function drained({ timer, isCutting, events }: Client): void {
  timer?.refresh();
  if (!isCutting) events.drained();
}

function left(client: Client): void {
  stop(client);
  if (!client.isCutting) client.events.left();
}

function idle(client: Client): void {
  client.isIdle = true;
  if (client.isCutting) destroy(client);
  else client.events.idle(`the body paused for more than ${client.idleTimeoutMs} ms`);
}

function written(client: Client): void {
  client.unwritten -= 1;
  if (client.isCutting && client.unwritten === 0) destroy(client);
}

function stop({ timer, response, onDrain, onClose }: Client): void {
  clearTimeout(timer);
  response.off('drain', onDrain);
  response.off('close', onClose);
}

function destroy(client: Client): void {
  const { response } = client;
  stop(client);
  // To a client of HTTP/1.0 the end of the connection is the end of the body, but for a reset (RFC 9112 section 8).
  if (response.req.httpVersion === '1.0') response.socket?.resetAndDestroy();
  else response.destroy();
}

function sendHead(response: ServerResponse, status: number, headers: RawHeaders): void {
  response.writeHead(status, [...headers]);
  // Corked, so that a body that is already there leaves in the same packet; one that isn't doesn't hold up the head.
  response.cork();
  response.flushHeaders();
  process.nextTick(() => response.uncork());
}
