import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';

import type { Dispatcher } from 'undici';

import type { Exchange, Sink, UpstreamFailure } from './exchange.ts';
import { declaredLength } from './framing.ts';
import type { RawHeaders } from './headers.ts';
import { createOutlet, type Outlet, type StreamEnd } from './outlet.ts';

/**
 * An answer that flows through, held back until it is piped or cancelled; one of the two must be called, once.
 * Until then its upstream is stopped by backpressure, without a time-out.
 */
export interface HeldStream {
  readonly kind: 'stream';
  readonly status: number;
  readonly headers: string[];
  /**
   * Answers the client: its status, these headers with the length that the upstream declared, what is held, and then each part
   * as it comes. Rejects only where a header is malformed. An upstream that failed before it sent any body is left to the caller to answer for
   * (`failed` without `headSent`).
   */
  pipe(response: ServerResponse, headers: RawHeaders): Promise<StreamEnd>;
  /** Lets the upstream go; nothing is written to anybody. */
  cancel(): void;
}

/** What stays of an exchange once its head is known. */
type BodySink = Pick<Sink, 'data' | 'end' | 'failed'>;

/** Takes an exchange over; `held` are the parts of the body that it has sent already, and `letGo` is told when they have gone on. */
export function holdStream(
  exchange: Exchange,
  head: { readonly status: number; readonly headers: string[] },
  held: Buffer[],
  idleTimeoutMs: number,
  letGo: () => void,
): { stream: HeldStream; sink: BodySink } {
  const { promise, resolve } = Promise.withResolvers<StreamEnd>();
  let isTaken = false;
  let outlet: Outlet | undefined;
  let isBlocked = true;
  let waiting = held;
  let next = 0;
  let reading: Dispatcher.DispatchController | undefined;
  let upstream: 'sending' | 'ended' | UpstreamFailure = 'sending';

  function flow(to: Outlet): void {
    isBlocked = false;
    while (next < waiting.length && !isBlocked) {
      isBlocked = !to.write(waiting[next++] ?? Buffer.alloc(0));
    }
    if (isBlocked) return;
    if (waiting === held) letGo();
    waiting = [];
    next = 0;
    if (upstream === 'sending') {
      reading?.resume();
    } else if (upstream === 'ended') {
      to.end();
      resolve({ kind: 'response', status: head.status, bodyBytes: to.bytes() });
    } else {
      giveUp(to, upstream);
    }
  }
  function giveUp(to: Outlet, failure: UpstreamFailure): void {
    to.cut();
    resolve({ kind: 'failed', headSent: true, ...failure });
  }
  function flowOn(): void {
    if (outlet && !isBlocked) flow(outlet);
  }
  function open(response: ServerResponse, headers: RawHeaders): void {
    const to = createOutlet(response, idleTimeoutMs, {
      drained: () => flow(to),
      idle(detail) {
        exchange.drop();
        giveUp(to, { reason: 'timeout', detail });
      },
      left() {
        exchange.drop();
        resolve({ kind: 'client_left' });
      },
    });
    try {
      to.open(head.status, [...headers, ...declaredLength(head.headers)]);
    } catch (error) {
      to.stop();
      exchange.drop();
      throw error;
    }
    outlet = to;
    flow(to);
  }

  const stream: HeldStream = {
    kind: 'stream',
    ...head,
    async pipe(response, headers) {
      assert(!isTaken, 'a stream is taken once');
      isTaken = true;
      if (response.destroyed) {
        exchange.drop();
        return { kind: 'client_left' };
      }
      if (typeof upstream === 'object' && waiting.length === 0) {
        return { kind: 'failed', headSent: false, ...upstream };
      }
      open(response, headers);
      return promise;
    },
    cancel() {
      isTaken = true;
      waiting = [];
      letGo();
      exchange.drop();
    },
  };
  const sink: BodySink = {
    data(chunk, controller) {
      reading = controller;
      waiting.push(chunk);
      flowOn();
      if (isBlocked) controller.pause();
    },
    end() {
      upstream = 'ended';
      flowOn();
    },
    failed(failure) {
      upstream = failure;
      flowOn();
    },
  };
  return { stream, sink };
}
