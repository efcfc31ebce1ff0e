import { Pool } from 'undici';
import type { buildConnector } from 'undici';

export interface ForwardLimits {
  /** Upstream origins with open connections at a time. */
  originsMax: number;
  /** Calls in flight to one origin; a slow upstream holds no more than these. */
  callsPerOriginMax: number;
  /** An origin without a call for this long is let go. */
  originIdleMs: number;
}

type Lease =
  | { readonly kind: 'leased'; readonly pool: Pool; readonly release: () => void }
  | { readonly kind: 'busy'; readonly detail: string }
  | { readonly kind: 'malformed'; readonly error: Error };

export interface Pools {
  /** Takes one call's place in the pool of its origin; `release` gives it back. */
  lease(origin: string): Lease;
  /** Takes no more calls, and resolves when `endPool` has ended each pool. */
  end(endPool: (pool: Pool) => Promise<void>): Promise<void>;
}

interface Entry {
  readonly pool: Pool;
  calls: number;
  usedAt: number;
}

/** One undici pool for each origin: the longest unused makes room for a new one, and idle ones are closed. */
export function createPools(connect: buildConnector.connector, limits: ForwardLimits): Pools {
  // In order of last use, the oldest first.
  const entries = new Map<string, Entry>();
  // Closing or not, a pool is here until it has ended, so that `end` waits for it.
  const open = new Set<Pool>();
  let ended = false;

  function letGo(origin: string, pool: Pool): void {
    entries.delete(origin);
    void pool.close().finally(() => open.delete(pool));
  }
  const sweep = everyHalf(limits.originIdleMs, () => {
    for (const [origin, { pool, calls, usedAt }] of entries) {
      if (calls === 0 && performance.now() - usedAt >= limits.originIdleMs) letGo(origin, pool);
    }
  });

  return {
    lease(origin) {
      if (ended) return { kind: 'busy', detail: 'the forwarder is closing' };
      let entry = entries.get(origin);
      if (entry === undefined) {
        if (entries.size >= limits.originsMax) {
          const unused = entries.entries().find(([, { calls }]) => calls === 0);
          if (!unused) return { kind: 'busy', detail: `${limits.originsMax} upstreams are being called` };
          letGo(unused[0], unused[1].pool);
        }
        try {
          entry = { pool: openPool(origin, connect, limits), calls: 0, usedAt: 0 };
        } catch (error) {
          return { kind: 'malformed', error: new TypeError(`not an origin: ${origin}`, { cause: error }) };
        }
        open.add(entry.pool);
      }
      if (entry.calls >= limits.callsPerOriginMax) {
        return { kind: 'busy', detail: `${entry.calls} calls to ${origin} are in flight` };
      }
      entries.delete(origin);
      entries.set(origin, entry);
      return { kind: 'leased', pool: entry.pool, release: takePlace(entry) };
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

function openPool(origin: string, connect: buildConnector.connector, limits: ForwardLimits): Pool {
  // Time is kept by the caller for the whole call, so undici's own time-outs are off.
  return new Pool(origin, {
    connect: withResetsTold(connect),
    connections: limits.callsPerOriginMax,
    pipelining: 1,
    headersTimeout: 0,
    bodyTimeout: 0,
  });
}

/**
 * undici takes ECONNRESET for the end of a body that ends with its connection (RFC 9112 section 6.3, rule 8), so that a part would
 * be sold as the whole; by another name it is an error. This listener stands before undici's.
 */
function withResetsTold(connect: buildConnector.connector): buildConnector.connector {
  return (target, callback) =>
    connect(target, (...[error, socket]: Parameters<buildConnector.Callback>) => {
      socket?.on('error', (trouble: NodeJS.ErrnoException) => {
        if (trouble.code === 'ECONNRESET') trouble.code = 'UPSTREAM_RESET';
      });
      if (error) callback(error, null);
      else callback(null, socket);
    });
}

function takePlace(entry: Entry): () => void {
  entry.calls += 1;
  let released = false;
  return () => {
    if (released) return;
    released = true;
    entry.calls -= 1;
    entry.usedAt = performance.now();
  };
}

function everyHalf(ms: number, run: () => void): NodeJS.Timeout {
  return setInterval(run, Math.max(ms / 2, 10)).unref();
}
