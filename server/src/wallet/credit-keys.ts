import { setTimeout as sleep } from 'node:timers/promises';
import type { Sql } from '../db/index.ts';
import { addSeconds, type Clock } from '../kernel/clock.ts';
import type { EnvironmentId } from '../kernel/ids.ts';
import { creditCurrency, type CreditKey } from '../x402/index.ts';
import { openPublicKey } from './credit-key.ts';
import { findActiveCreditKeys, findRevokedSince } from './credit-keys.sql.ts';

export { creditKeysChangedChannel } from './credit-keys.sql.ts';

/** The keys of payers as this process knows them. */
export interface CreditKeys {
  /** Nothing where the environment has no such key, or has revoked it: at most some seconds ago. */
  find(environmentId: string, kid: string): CreditKey | undefined | Promise<CreditKey | undefined>;
  /** Forgets what is known of an environment, or of all where none is named. */
  forget(environmentId: string): void;
}

/** A notification may be lost: revocations are asked for as well, this often. Invariant 7 allows five seconds. */
const checkedMs = 2_000;
/** How far back, as what was revoked shows only when it is committed. */
const overlapSeconds = 120;
/** A key that isn't known may have been registered since; it is looked for this often at most, and waited for that long. */
const missMs = 1_000;
/** Names that anyone may ask for, of environments that exist or not. */
const environmentsMax = 10_000;

interface Entry {
  loadedAt: number;
  loading: Promise<ReadonlyMap<string, CreditKey>>;
  keys?: ReadonlyMap<string, CreditKey>;
}

/** Keeps keys in memory, parsed, however many payers there are: a payment that is checked asks the database for nothing. */
export function createCreditKeys({ db, clock }: { db: Sql; clock: Clock }): CreditKeys {
  const entries = new Map<string, Entry>();
  let checkedAt = -Infinity;
  let checking: Promise<void> | undefined;

  function forget(environmentId: string): void {
    if (environmentId === '') entries.clear();
    else entries.delete(environmentId);
  }

  async function forgetRevoked(): Promise<void> {
    const startedAt = performance.now();
    const since = addSeconds(clock.now(), -overlapSeconds);
    for (const environmentId of await findRevokedSince(db, since)) forget(environmentId);
    checkedAt = startedAt;
  }

  function begin(environmentId: string): Entry {
    if (entries.size >= environmentsMax) entries.clear();
    const entry: Entry = { loadedAt: performance.now(), loading: load(db, environmentId) };
    entries.set(environmentId, entry);
    entry.loading.then(
      (keys) => (entry.keys = keys),
      // A failed load isn't kept: the next payment tries again.
      () => entries.get(environmentId) === entry && entries.delete(environmentId),
    );
    return entry;
  }

  async function findSlowly(environmentId: string, kid: string): Promise<CreditKey | undefined> {
    if (performance.now() - checkedAt >= checkedMs)
      await (checking ??= forgetRevoked().finally(() => (checking = undefined)));
    const askedAt = performance.now();
    const known = entries.get(environmentId) ?? begin(environmentId);
    const found = (await known.loading).get(kid);
    if (found || known.loadedAt >= askedAt) return found;
    const restMs = missMs - (performance.now() - known.loadedAt);
    if (restMs > 0) await sleep(restMs);
    const current = entries.get(environmentId);
    const next = current === undefined || current === known ? begin(environmentId) : current;
    return (await next.loading).get(kid);
  }

  return {
    find(environmentId, kid) {
      const found = entries.get(environmentId)?.keys?.get(kid);
      return found && performance.now() - checkedAt < checkedMs ? found : findSlowly(environmentId, kid);
    },
    forget,
  };
}

async function load(db: Sql, environmentId: string): Promise<ReadonlyMap<string, CreditKey>> {
  const rows = await findActiveCreditKeys(db, environmentId);
  return new Map(
    rows.map(({ kid, algorithm, publicJwk, kind }) => [
      kid,
      {
        environmentId: environmentId as EnvironmentId,
        kid,
        algorithm,
        publicKey: openPublicKey(publicJwk),
        currency: creditCurrency(kind),
      },
    ]),
  );
}
