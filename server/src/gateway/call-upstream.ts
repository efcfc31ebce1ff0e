import { limits } from '../kernel/limits.ts';
import type { StoredResponse } from '../x402/index.ts';
import type { AnswerMemory, HeldAnswer } from './answer-memory.ts';
import type { AdaptiveCall } from './forward-adaptive.ts';
import type { Forwarder } from './forward.ts';
import { clientHeaders } from './headers.ts';
import type { HeldStream } from './held-stream.ts';

/**
 * A success that is too large to be stored, or has no end to wait for: its headers are the client's already. It is stopped
 * until it is piped (`sendStream`) or cancelled, and one of the two must follow.
 */
export type UpstreamStream = HeldStream;

/** An upstream's answer to a priced call, as it counts: a success is charged, anything else isn't. */
export type UpstreamAnswer =
  /** A 4xx: the request was wrong, and the client is told so in the upstream's words. */
  | { kind: 'client_error'; response: StoredResponse }
  | { kind: 'failed'; reason: string }
  | { kind: 'success'; response: StoredResponse }
  | UpstreamStream;

/** A priced call as its upstream gets it; the body is whole. */
export interface UpstreamCall {
  origin: string;
  target: string;
  method: string;
  headers: readonly string[];
  body: Buffer | null;
  /** Where the answer is held, and by whom. */
  memory: AnswerMemory;
  held: HeldAnswer;
}

const wantedOf = { success: 'stream', client_error: 'whole', failed: 'nothing' } as const;

/**
 * Runs the upstream of a priced call and judges what it says. A 402 of the upstream is a failure:
 * its terms are not ours. A redirect is one too: it isn't followed, and would send the client past the gateway.
 */
export async function callUpstream(forwarder: Forwarder, call: UpstreamCall): Promise<UpstreamAnswer> {
  const outcome = await forwarder.forwardAdaptive({
    ...call,
    timeoutMs: limits.upstreamTimeoutSeconds * 1000,
    bufferBytesMax: limits.storedResponseBytes,
    idleTimeoutMs: limits.streamIdleSeconds * 1000,
    wants,
  });
  if (outcome.kind === 'failed') return { kind: 'failed', reason: outcome.reason };
  const { status } = outcome;
  const headers = clientHeaders(outcome.headers);
  if (outcome.kind === 'stream') return { ...outcome, headers };
  const judged = judge(status);
  if (judged === 'failed') return { kind: judged, reason: `status ${status}` };
  return { kind: judged, response: { status, headers, body: outcome.body } };
}

function wants(status: number): ReturnType<AdaptiveCall['wants']> {
  // RFC 9110 section 15.3.6: a 205 has no content, whatever an upstream sends along.
  if (status === 205) return 'nothing';
  return wantedOf[judge(status)];
}

function judge(status: number): 'success' | 'client_error' | 'failed' {
  if (status >= 200 && status < 300) return 'success';
  return status >= 400 && status < 500 && status !== 402 ? 'client_error' : 'failed';
}
