import type { Sql } from '../db/index.ts';
import type { EnvironmentId } from '../kernel/ids.ts';
import { creditCurrency, type CreditKey } from '../x402/index.ts';
import { openPublicKey } from './credit-key.ts';
import { findActiveCreditKeys } from './credit-keys.sql.ts';

export { creditKeysChangedChannel } from './credit-keys.sql.ts';

/** The keys of payers as this process knows them. */
export interface CreditKeys {
  /** Nothing where the environment has no such key, or has revoked it: at most some seconds ago. */
  find(environmentId: string, kid: string): CreditKey | undefined | Promise<CreditKey | undefined>;
  /** Forgets what is known of an environment, or of all where none is named. */
  forget(environmentId: string): void;
}

/** A revocation that no notification told of is heeded after this long: invariant 7 allows five seconds. */
const freshMs = 4_000;
/** Names that anyone may ask for, of environments that exist or not. */
const environmentsMax = 10_000;

type Keys = ReadonlyMap<string, CreditKey>;

/** Keeps keys in memory between payments, parsed; loads an environment's once however many payments wait for it. */
export function createCreditKeys(db: Sql): CreditKeys {
  const entries = new Map<string, { loadedAt: number; loading: Promise<Keys>; keys?: Keys }>();

  return {
    find(environmentId, kid) {
      const known = entries.get(environmentId);
      if (known && performance.now() - known.loadedAt < freshMs)
        return known.keys ? known.keys.get(kid) : known.loading.then((keys) => keys.get(kid));
      if (entries.size >= environmentsMax) entries.clear();
      const loading = load(db, environmentId);
      const entry: { loadedAt: number; loading: Promise<Keys>; keys?: Keys } = {
        loadedAt: performance.now(),
        loading,
      };
      entries.set(environmentId, entry);
      return loading.then(
        (keys) => (entry.keys = keys).get(kid),
        (error: unknown) => {
          // A failed load isn't kept: the next payment tries again.
          if (entries.get(environmentId) === entry) entries.delete(environmentId);
          throw error;
        },
      );
    },
    forget(environmentId) {
      if (environmentId === '') entries.clear();
      else entries.delete(environmentId);
    },
  };
}

async function load(db: Sql, environmentId: string): Promise<Keys> {
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
