import { createLane, type Database, writeBatch } from '../../db/index.ts';
import { addressBlock } from '../../kernel/address-block.ts';
import type { Clock } from '../../kernel/clock.ts';
import { AppError } from '../../kernel/errors.ts';
import { isAgentId, isId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { countFailures, type FailureCount, findFailures, forgetFailures } from './failed-attempts.sql.ts';
import { createFailureMemory, type FailureMemory, type Failures, type Keys } from './failure-memory.ts';
import { createLookBudget } from '../../kernel/look-budget.ts';
import { type Refusal, writeDownRefusals } from './refusals.ts';

/** One attempt to authenticate as a client, by what the caller says it is. */
export interface Attempt {
  address: string;
  clientId: string;
}

/** In the place of a client, for refresh tokens: who guesses at those says nothing of whom. */
export const refreshTokens = 'refresh token';

/**
 * Slows down who guesses credentials. What is shown is looked at first, and only a failure ever waits, a minute at most: who shares an
 * address with a guesser, or is guessed at by strangers, gets in. How often a client was failed for, by anybody, decides how soon a
 * failing address waits. Credentials have 256 random bits: what is bounded is noise and load.
 *
 * Failures are counted for all processes together. A process reads that count only for who has failed here before, and a success
 * writes nothing unless there is something to forgive: of N processes, each lets through one failure at most that a single one
 * would not.
 */
export interface GuessGuard {
  /**
   * Comes before something is looked up for the attempt. Throws `rate_limited` where its failure would have to wait, and the address
   * has had its looks of this second.
   */
  admit(attempt: Attempt, now: Date): void;
  /**
   * Counts it, and writes it down for the owner of whom it was for. Throws `rate_limited` with the seconds to wait instead, where it
   * comes too soon after the one before.
   */
  failed(attempt: Attempt, now: Date, refusal: Refusal): Promise<void>;
  /** Forgives the address what it failed for this client; not what it failed for others, of which one may be its own. */
  succeeded(attempt: Attempt): void;
  /** Resolves when all that was counted is written, and takes no more. */
  stop(): Promise<void>;
}

type Job = { keys: Keys; at: Date; refusal: Refusal } | { forgiven: string };

export function createGuessGuard(context: { db: Database; clock: Clock }): GuessGuard {
  const known = createFailureMemory();
  const lane = createLane<Job, FailureCount[]>({
    batchMax: limits.tokenBatch,
    intervalMs: limits.tokenBatchMs,
    run: (jobs) => commit(context, jobs),
  });

  const looks = createLookBudget();

  /** In milliseconds. */
  function waitUntil(keys: Keys, now: Date): number {
    return Math.max(...waitsOf(known, keys, now));
  }

  function demandNoWait(keys: Keys, now: Date): void {
    const until = waitUntil(keys, now);
    if (until <= now.getTime()) return;
    const seconds = Math.ceil((until - now.getTime()) / 1000);
    throw new AppError(
      'rate_limited',
      `Too many wrong credentials came from this address; try again in ${seconds} seconds`,
      { retryAfterSeconds: seconds },
    );
  }

  return {
    admit(attempt, now) {
      const keys = keysOf(attempt);
      if (waitUntil(keys, now) > now.getTime() && !looks.take(keys.address, now)) demandNoWait(keys, now);
    },
    async failed(attempt, now, refusal) {
      const keys = keysOf(attempt);
      demandNoWait(keys, now);
      const address = known.address.find(keys.address, now);
      const isSuspect =
        known.pair.find(keys.pair, now) ?? (address && address.count > limits.freeFailuresOfAddress);
      if (isSuspect) {
        known.learn(await findFailures(context.db, Object.values(keys)), now);
        demandNoWait(keys, now);
      }
      // Before anything is waited for: of many at once, each is counted before the next is asked.
      known.add(keys, now);
      let counted: readonly FailureCount[] = [];
      try {
        counted = await lane.submit({ keys, at: now, refusal });
      } finally {
        known.written(keys, counted, now);
      }
    },
    succeeded(attempt) {
      const { pair } = keysOf(attempt);
      if (!known.pair.forget(pair)) return;
      // Where that fails, it is forgiven here alone, and forgotten elsewhere in a quarter of an hour.
      Promise.try(() => lane.submit({ forgiven: pair })).catch(() => undefined);
    },
    stop: () => lane.stop(),
  };
}

/** Writes down what has failed since the last time, and gives each failure its counts. */
async function commit(
  context: { db: Database; clock: Clock },
  jobs: readonly Job[],
): Promise<FailureCount[][]> {
  const forgiven = jobs.flatMap((job) => ('forgiven' in job ? [job.forgiven] : []));
  const failures = jobs.flatMap((job) => ('forgiven' in job ? [] : [job]));
  const sums = new Map<string, FailureCount>();
  for (const { keys, at } of failures)
    for (const key of Object.values(keys)) {
      const { count, lastAt } = sums.get(key) ?? { count: 0, lastAt: at };
      sums.set(key, { key, count: count + 1, lastAt: lastAt > at ? lastAt : at });
    }
  return writeBatch(context, async (sql, now) => {
    if (forgiven.length > 0) await forgetFailures(sql, forgiven);
    const counted = sums.size > 0 ? await countFailures(sql, [...sums.values()]) : [];
    const byKey = new Map(counted.map((row) => [row.key, row]));
    const audits = await writeDownRefusals(
      sql,
      failures.map(({ refusal }) => refusal),
      now,
    );
    const result = jobs.map((job) =>
      'forgiven' in job ? [] : Object.values(job.keys).flatMap((key) => byKey.get(key) ?? []),
    );
    return { result, audits };
  });
}

function keysOf(attempt: Attempt): Keys {
  const address = addressBlock(attempt.address);
  const { clientId } = attempt;
  // What no client is called is all one name: it may be anything, however long.
  const isName = isAgentId(clientId) || isId('client', clientId) || clientId === refreshTokens;
  const client = isName ? clientId : 'unknown';
  return { pair: `pair ${address} ${client}`, address: `address ${address}`, client: `client ${client}` };
}

/** Of these, everybody's failures say nothing about anybody. */
const namesOfNobody = new Set(['client unknown', `client ${refreshTokens}`]);

/** When the next attempt may come, by each rule that makes it wait at all. */
function waitsOf(known: FailureMemory, keys: Keys, now: Date): number[] {
  const own = known.pair.find(keys.pair, now);
  const everyones = own && known.client.find(keys.client, now);
  return [
    waitOf(own, limits.freeFailuresOfPair),
    waitOf(known.address.find(keys.address, now), limits.freeFailuresOfAddress),
    // Timed from the address's own last failure: nobody else can prolong it.
    own && everyones && !namesOfNobody.has(keys.client)
      ? waitOf({ ...everyones, lastAt: own.lastAt }, limits.freeFailuresOfClient)
      : undefined,
  ].filter((wait) => wait !== undefined);
}

/** When the next attempt may come: 1 s after the first failure beyond the free ones, twice as long after each further one. */
function waitOf(failures: Failures | undefined, free: number): number | undefined {
  if (!failures || failures.count <= free) return undefined;
  const seconds = Math.min(2 ** (failures.count - free - 1), limits.guessWaitSecondsMax);
  return failures.lastAt + seconds * 1000;
}
