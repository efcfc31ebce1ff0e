import { addressBlock } from '../../kernel/address-block.ts';
import { AppError } from '../../kernel/errors.ts';
import { limits } from '../../kernel/limits.ts';

/** One attempt to authenticate as a client, by what the caller says it is. */
export interface Attempt {
  address: string;
  clientId: string;
}

/**
 * Slows down who guesses credentials. Only an address that has failed itself ever waits, and never longer than a minute: failures
 * of strangers make no owner wait. How often a client was failed for, by anybody, decides how soon a failing address waits.
 */
export interface GuessGuard {
  /** Throws `rate_limited` with the seconds to wait. Comes before the credential is looked at. */
  admit(attempt: Attempt, now: Date): void;
  failed(attempt: Attempt, now: Date): void;
  /** Forgives the address what it failed for this client; not what it failed for others, of which one may be its own. */
  succeeded(attempt: Attempt): void;
}

interface Failures {
  count: number;
  lastAt: number;
}

/** Counted in this process alone: secrets have 256 random bits, so what is bounded is noise and load. */
export function createGuessGuard(): GuessGuard {
  const byPair = createTally();
  const byAddress = createTally();
  const byClient = createTally();

  return {
    admit(attempt, now) {
      const { pair, address, client } = keysOf(attempt);
      const own = byPair.find(pair, now);
      const everyones = own && byClient.find(client, now);
      const waits = [
        waitOf(own, limits.freeFailuresOfPair),
        waitOf(byAddress.find(address, now), limits.freeFailuresOfAddress),
        // Timed from the address's own last failure: nobody else can prolong it.
        own && everyones
          ? waitOf({ ...everyones, lastAt: own.lastAt }, limits.freeFailuresOfClient)
          : undefined,
      ];
      const until = Math.max(...waits.map((wait) => wait ?? 0));
      if (until <= now.getTime()) return;
      const seconds = Math.ceil((until - now.getTime()) / 1000);
      throw new AppError(
        'rate_limited',
        `Too many wrong credentials came from this address; try again in ${seconds} seconds`,
        { retryAfterSeconds: seconds },
      );
    },
    failed(attempt, now) {
      const { pair, address, client } = keysOf(attempt);
      byPair.add(pair, now);
      byAddress.add(address, now);
      byClient.add(client, now);
    },
    succeeded(attempt) {
      byPair.forget(keysOf(attempt).pair);
    },
  };
}

function keysOf(attempt: Attempt): { pair: string; address: string; client: string } {
  const address = addressBlock(attempt.address);
  // No client's name is longer than 40 characters: what else is sent in its place, however long, is all one name.
  const client = attempt.clientId.length > 40 ? 'unknown' : attempt.clientId;
  return { pair: `${address} ${client}`, address, client };
}

/** When the next attempt may come: 1 s after the first failure beyond the free ones, twice as long after each further one. */
function waitOf(failures: Failures | undefined, free: number): number | undefined {
  if (!failures || failures.count <= free) return undefined;
  const seconds = Math.min(2 ** (failures.count - free - 1), limits.guessWaitSecondsMax);
  return failures.lastAt + seconds * 1000;
}

/** Failures by key, forgotten after a quiet while; of too many keys the one that failed longest ago goes first. */
function createTally() {
  const entries = new Map<string, Failures>();
  return {
    find(key: string, now: Date): Failures | undefined {
      const found = entries.get(key);
      if (!found || now.getTime() - found.lastAt < limits.guessMemorySeconds * 1000) return found;
      entries.delete(key);
      return undefined;
    },
    add(key: string, now: Date): void {
      const count = (this.find(key, now)?.count ?? 0) + 1;
      entries.delete(key);
      entries.set(key, { count, lastAt: now.getTime() });
      if (entries.size <= limits.guessMemoryEntries) return;
      const [oldest] = entries.keys();
      if (oldest !== undefined) entries.delete(oldest);
    },
    forget(key: string): void {
      entries.delete(key);
    },
  };
}
