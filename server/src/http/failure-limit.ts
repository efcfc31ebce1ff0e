import type { SharedCounts } from '../db/index.ts';
import { addressBlock } from '../kernel/address-block.ts';
import type { Clock } from '../kernel/clock.ts';
import { assert } from '../kernel/assert.ts';
import { createDigestMemory } from '../kernel/digest-memory.ts';
import { AppError } from '../kernel/errors.ts';
import { createLookBudget } from '../kernel/look-budget.ts';
import { sharedLimits } from './route.ts';

/**
 * Bounds what wrong API keys cost: the other limits count by principal, and these have none. They are counted for all processes together.
 * What is good passes from whichever address; a failure beyond the limit is told to wait.
 */
export interface FailureLimit {
  /** Comes before a look-up. Throws `rate_limited` where the address has failed too often, has had its looks, and shows nothing known. */
  admit(address: string, credential: string): void;
  /** Counts a failure, and forgets that the credential was good. Throws `rate_limited` instead of counting beyond the limit. */
  failed(address: string, credential: string): Promise<void>;
  succeeded(credential: string): void;
}

export function createFailureLimit({ counts, clock }: { counts: SharedCounts; clock: Clock }): FailureLimit {
  const { credential: limit } = sharedLimits;
  assert(limit, 'wrong credentials are counted for all processes together');
  const known = createDigestMemory();
  const looks = createLookBudget();

  return {
    admit(address, credential) {
      const seconds = counts.usedUpFor(keyOf(address), limit);
      if (seconds === undefined) return;
      if (known.has(credential) || looks.take(addressBlock(address), clock.now())) return;
      throw tooMany(seconds);
    },
    async failed(address, credential) {
      known.forget(credential);
      const { isWithin, endsInSeconds } = await counts.take(keyOf(address), limit);
      if (!isWithin) throw tooMany(endsInSeconds);
    },
    succeeded: (credential) => known.add(credential),
  };
}

const keyOf = (address: string) => `failure ${addressBlock(address)}`;

function tooMany(seconds: number): AppError {
  return new AppError(
    'rate_limited',
    `Too many wrong credentials came from this address; try again in ${seconds} seconds`,
    { retryAfterSeconds: seconds },
  );
}
