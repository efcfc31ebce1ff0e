import type { buildConnector } from 'undici';

import { limits } from '../kernel/limits.ts';
import { type AdaptiveCall, type AdaptiveOutcome, forwardAdaptive } from './forward-adaptive.ts';
import { forwardStreaming, type StreamingCall, type StreamingOutcome } from './forward-streaming.ts';
import { createPools, type ForwardLimits } from './upstream-pools.ts';

/** Sends calls upstream. Trouble upstream is an outcome; a promise rejects only when the request itself is malformed. */
export interface Forwarder {
  readonly forwardAdaptive: (call: AdaptiveCall) => Promise<AdaptiveOutcome>;
  readonly forwardStreaming: (call: StreamingCall) => Promise<StreamingOutcome>;
  /** Lets calls in flight finish, and takes no more. */
  readonly close: () => Promise<void>;
  /** Cuts calls in flight; they end as `reset`. */
  readonly destroy: () => Promise<void>;
}

const ownLimits: ForwardLimits = {
  originsMax: limits.upstreamOrigins,
  callsPerOriginMax: limits.upstreamCallsPerOrigin,
  originIdleMs: limits.upstreamOriginIdleSeconds * 1000,
};

/** Makes the forwarder. `connect` opens each connection, so the address guard (invariant 9) stands there. */
export function createForwarder(options: {
  connect: buildConnector.connector;
  /** Those of `kernel/limits.ts`, if absent. */
  limits?: ForwardLimits;
}): Forwarder {
  const pools = createPools(options.connect, options.limits ?? ownLimits);

  return {
    forwardAdaptive: (call) => forwardAdaptive(pools, call),
    forwardStreaming: (call) => forwardStreaming(pools, call),
    close: () => pools.end((pool) => pool.close()),
    destroy: () => pools.end((pool) => pool.destroy()),
  };
}
