import { addressBlock } from '../kernel/address-block.ts';
import type { Clock } from '../kernel/clock.ts';
import { createDigestMemory } from '../kernel/digest-memory.ts';
import { AppError } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';
import { createLookBudget } from '../kernel/look-budget.ts';
import { rateLimits } from './route.ts';

const windowMs = 60_000;

/**
 * Bounds what wrong API keys cost: the other limits count by principal, and these have none. As those do, it counts in each
 * process for itself. What is good passes from whichever address; a failure beyond the limit is told to wait.
 */
export interface FailureLimit {
  /** Comes before a look-up. Throws `rate_limited` where the address has failed too often, has had its looks, and shows nothing known. */
  admit(address: string, credential: string): void;
  /** Counts a failure, and forgets that the credential was good. Throws `rate_limited` instead of counting beyond the limit. */
  failed(address: string, credential: string): void;
  succeeded(credential: string): void;
}

export function createFailureLimit(clock: Clock): FailureLimit {
  const counts = new Map<string, { endsAt: number; count: number }>();
  const known = createDigestMemory();
  const looks = createLookBudget();

  function entryOf(address: string) {
    const key = addressBlock(address);
    const now = clock.now().getTime();
    const found = counts.get(key);
    if (found && now < found.endsAt) return found;
    const entry = { endsAt: now + windowMs, count: 0 };
    counts.delete(key);
    counts.set(key, entry);
    const [oldest] = counts.size > limits.guessMemoryEntries ? counts.keys() : [];
    if (oldest !== undefined) counts.delete(oldest);
    return entry;
  }

  function refuse(endsAt: number): never {
    const seconds = Math.ceil((endsAt - clock.now().getTime()) / 1000);
    throw new AppError(
      'rate_limited',
      `Too many wrong credentials came from this address; try again in ${seconds} seconds`,
      { retryAfterSeconds: seconds },
    );
  }

  return {
    admit(address, credential) {
      const found = counts.get(addressBlock(address));
      if (!found || found.count < rateLimits.credential || clock.now().getTime() >= found.endsAt) return;
      if (known.has(credential) || looks.take(addressBlock(address), clock.now())) return;
      refuse(found.endsAt);
    },
    failed(address, credential) {
      known.forget(credential);
      const entry = entryOf(address);
      if (entry.count >= rateLimits.credential) refuse(entry.endsAt);
      entry.count += 1;
    },
    succeeded: (credential) => known.add(credential),
  };
}
