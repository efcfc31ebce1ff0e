import { limits } from '../kernel/limits.ts';
import type { StoredResponse } from '../x402/index.ts';
import type { Forwarder } from './forward.ts';
import { clientHeaders } from './headers.ts';

/** An upstream's answer to a priced call, as it counts: a success is charged, anything else isn't. */
export type UpstreamAnswer =
  /** A 4xx: the request was wrong, and the client is told so in the upstream's words. */
  | { kind: 'client_error'; response: StoredResponse }
  | { kind: 'failed'; reason: string }
  | { kind: 'success'; response: StoredResponse };

/** A priced call as its upstream gets it; the body is whole. */
export interface UpstreamCall {
  origin: string;
  target: string;
  method: string;
  headers: readonly string[];
  body: Buffer | null;
}

/**
 * Runs the upstream of a priced call and judges what it says. A 402 of the upstream is a failure:
 * its terms are not ours. A redirect is one too: it isn't followed, and would send the client past the gateway.
 */
export async function callUpstream(forwarder: Forwarder, call: UpstreamCall): Promise<UpstreamAnswer> {
  const outcome = await forwarder.forwardBuffered({
    ...call,
    timeoutMs: limits.upstreamTimeoutSeconds * 1000,
    maxResponseBytes: limits.gatewayResponseBytes,
  });
  if (outcome.kind === 'failed') return { kind: 'failed', reason: outcome.reason };
  const { status, body } = outcome;
  const response: StoredResponse = { status, headers: clientHeaders(outcome.headers), body };
  if (status >= 200 && status < 300) return { kind: 'success', response };
  if (status >= 400 && status < 500 && status !== 402) return { kind: 'client_error', response };
  return { kind: 'failed', reason: `status ${status}` };
}
