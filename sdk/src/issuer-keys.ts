/** A key that an issuer publishes (RFC 7517): its id, its one algorithm, and its members. */
export interface PublicJwk {
  kid?: string;
  kty?: string;
  alg?: string;
  use?: string;
  [member: string]: unknown;
}

/** Finds an issuer's key by its id. */
export type FindKey = (kid: string) => Promise<PublicJwk | undefined>;

/** As long as our servers let it be kept; a dropped key is believed no longer than this. */
const keptMs = 300_000;
/** Between two fetches for keys that aren't in the set: credentials with made-up ids must not make us call the issuer at will. */
const searchCooldownMs = 30_000;
const failureCooldownMs = 1_000;
const timeoutMs = 5_000;

const known = new Map<string, FindKey>();

/** The keys of an issuer, fetched when they are first asked for, and kept by this process. */
export function keysOf(issuer: string): FindKey {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/jwks.json`;
  const keys = known.get(url) ?? createRemoteKeys(url);
  known.set(url, keys);
  return keys;
}

/** Keys at an address: one fetch for all who ask at once, again when they are old, and at most every 30 seconds for an unknown id. */
export function createRemoteKeys(
  url: string,
  options: { fetch?: typeof fetch; nowMs?: () => number } = {},
): FindKey {
  const { fetch: send = fetch, nowMs = () => Date.now() } = options;
  let keys: readonly PublicJwk[] = [];
  let fetchedAtMs = Number.NEGATIVE_INFINITY;
  let failedAtMs = Number.NEGATIVE_INFINITY;
  let failure: unknown;
  let running: Promise<void> | undefined;

  async function load(): Promise<void> {
    try {
      keys = await fetchKeys(send, url);
      fetchedAtMs = nowMs();
    } catch (error) {
      failure = error;
      failedAtMs = nowMs();
      throw error;
    } finally {
      running = undefined;
    }
  }

  /** Many credentials that come while the issuer is down make one call a second, too. */
  function refresh(): Promise<void> {
    if (running) return running;
    if (nowMs() - failedAtMs < failureCooldownMs) return Promise.reject(failure);
    return (running = load());
  }

  return async (kid) => {
    if (nowMs() - fetchedAtMs >= keptMs) await refresh();
    const found = findKey(keys, kid);
    if (found || nowMs() - fetchedAtMs < searchCooldownMs) return found;
    await refresh();
    return findKey(keys, kid);
  };
}

/** The key of that id among these. Two of one id are none: which of them is meant can't be told. */
export function findKey(keys: readonly PublicJwk[], kid: string): PublicJwk | undefined {
  const found = keys.filter((key) => key.kid === kid);
  return found.length === 1 ? found[0] : undefined;
}

async function fetchKeys(send: typeof fetch, url: string): Promise<readonly PublicJwk[]> {
  const response = await send(url, {
    redirect: 'error',
    signal: AbortSignal.timeout(timeoutMs),
    headers: { accept: 'application/json, application/jwk-set+json' },
  });
  if (response.status !== 200) throw new Error(`${url} answers ${response.status}`);
  const body = (await response.json()) as { keys?: unknown };
  if (!Array.isArray(body?.keys)) throw new Error(`${url} is no JWKS`);
  return body.keys.filter((key): key is PublicJwk => key !== null && typeof key === 'object');
}
