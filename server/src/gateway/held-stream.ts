import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';

import type { Dispatcher } from 'undici';

import type { AnswerMemory, HeldAnswer } from './answer-memory.ts';
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

/** The call that a stream answers, as far as that matters here. */
interface HoldingCall {
  readonly idleTimeoutMs: number;
  readonly memory: AnswerMemory;
  readonly held: HeldAnswer;
}

/** A stream on its way from its upstream to its client, or on its way to be. */
interface Flow {
  readonly exchange: Exchange;
  readonly head: { readonly status: number; readonly headers: string[] };
  /** What the upstream had sent before it was held. */
  readonly held: Buffer[];
  readonly call: HoldingCall;
  readonly ended: (end: StreamEnd) => void;
  outlet: Outlet | undefined;
  isTaken: boolean;
  isBlocked: boolean;
  waiting: Buffer[];
  next: number;
  reading: Dispatcher.DispatchController | undefined;
  upstream: 'sending' | 'ended' | UpstreamFailure;
}

/** Takes an exchange over; `held` are the parts of the body that it has sent already: their memory is free once they have gone on. */
export function holdStream(
  exchange: Exchange,
  head: Flow['head'],
  held: Buffer[],
  call: HoldingCall,
): { stream: HeldStream; sink: BodySink } {
  const { promise, resolve: ended } = Promise.withResolvers<StreamEnd>();
  const flow: Flow = {
    exchange,
    head,
    held,
    call,
    ended,
    outlet: undefined,
    isTaken: false,
    isBlocked: true,
    waiting: held,
    next: 0,
    reading: undefined,
    upstream: 'sending',
  };
  const stream: HeldStream = {
    kind: 'stream',
    ...head,
    async pipe(response, headers) {
      assert(!flow.isTaken, 'a stream is taken once');
      flow.isTaken = true;
      if (response.destroyed) {
        cancel(flow);
        return { kind: 'client_left' };
      }
      if (typeof flow.upstream === 'object' && flow.waiting.length === 0) {
        return { kind: 'failed', headSent: false, ...flow.upstream };
      }
      open(flow, response, headers);
      return promise;
    },
    cancel: () => cancel(flow),
  };
  return { stream, sink: sinkOf(flow) };
}

function cancel(flow: Flow): void {
  flow.isTaken = true;
  flow.waiting = [];
  letGo(flow);
  flow.exchange.drop();
}

/** What the upstream sends from now on. */
function sinkOf(flow: Flow): BodySink {
  return {
    data(chunk, controller) {
      flow.reading = controller;
      flow.waiting.push(chunk);
      flowOn(flow);
      if (flow.isBlocked) controller.pause();
    },
    end() {
      flow.upstream = 'ended';
      flowOn(flow);
    },
    failed(failure) {
      flow.upstream = failure;
      flowOn(flow);
    },
  };
}

/** Answers the client, and lets what is held go on. Throws where a header is malformed. */
function open(flow: Flow, response: ServerResponse, headers: RawHeaders): void {
  const outlet = createOutlet(response, flow.call.idleTimeoutMs, {
    drained: () => write(flow, outlet),
    idle(detail) {
      flow.exchange.drop();
      giveUp(flow, outlet, { reason: 'timeout', detail });
    },
    left() {
      flow.exchange.drop();
      flow.ended({ kind: 'client_left' });
    },
  });
  const { status, headers: upstreamHeaders } = flow.head;
  try {
    outlet.open(status, [...headers, ...declaredLength(upstreamHeaders)]);
  } catch (error) {
    outlet.stop();
    flow.exchange.drop();
    throw error;
  }
  flow.outlet = outlet;
  write(flow, outlet);
}

function flowOn(flow: Flow): void {
  if (flow.outlet && !flow.isBlocked) write(flow, flow.outlet);
}

/** Writes what waits until the client takes no more; once nothing waits, goes on as the upstream does. */
function write(flow: Flow, outlet: Outlet): void {
  flow.isBlocked = false;
  while (flow.next < flow.waiting.length && !flow.isBlocked) {
    flow.isBlocked = !outlet.write(flow.waiting[flow.next++] ?? Buffer.alloc(0));
  }
  if (flow.isBlocked) return;
  if (flow.waiting === flow.held) letGo(flow);
  flow.waiting = [];
  flow.next = 0;
  const { upstream } = flow;
  if (upstream === 'sending') {
    flow.reading?.resume();
  } else if (upstream === 'ended') {
    outlet.end();
    flow.ended({ kind: 'response', status: flow.head.status, bodyBytes: outlet.bytes() });
  } else {
    giveUp(flow, outlet, upstream);
  }
}

function letGo({ call }: Flow): void {
  call.memory.free(call.held);
}

function giveUp(flow: Flow, outlet: Outlet, failure: UpstreamFailure): void {
  outlet.cut();
  flow.ended({ kind: 'failed', headSent: true, ...failure });
}
