import { limits } from '../../kernel/limits.ts';
import type { FailureCount } from './failed-attempts.sql.ts';

/** Under what an attempt that failed is counted. */
export interface Keys {
  pair: string;
  address: string;
  client: string;
}

export interface Failures {
  count: number;
  /** In milliseconds. */
  lastAt: number;
}

const kinds = ['pair', 'address', 'client'] as const;

export type FailureMemory = ReturnType<typeof createFailureMemory>;

/** What this process knows of the counts. Those of all processes lack its own failures that aren't written yet, and never make it forget them. */
export function createFailureMemory() {
  const tallies = { pair: createTally(), address: createTally(), client: createTally() };
  const unwritten = new Map<string, number>();
  const change = (keys: Keys, by: 1 | -1): void => {
    for (const key of Object.values(keys)) {
      const count = (unwritten.get(key) ?? 0) + by;
      if (count > 0) unwritten.set(key, count);
      else unwritten.delete(key);
    }
  };
  const set = ({ key, count, lastAt }: FailureCount, now: Date, atLeast: 'known' | 'nothing'): void => {
    const kind = kinds.find((one) => key.startsWith(`${one} `));
    if (!kind) return;
    const known = tallies[kind].find(key, now);
    const whole = count + (unwritten.get(key) ?? 0);
    tallies[kind].set(key, {
      count: atLeast === 'known' ? Math.max(whole, known?.count ?? 0) : whole,
      // The clock may have been set back since: what is ahead of it would make callers wait for as long as it is ahead.
      lastAt: lastAt > now ? (known?.lastAt ?? now.getTime()) : lastAt.getTime(),
    });
  };
  return {
    ...tallies,
    /** Counts a failure that is going to be written. */
    add(keys: Keys, now: Date): void {
      for (const kind of kinds) tallies[kind].add(keys[kind], now);
      change(keys, 1);
    },
    /** A failure is written, and this is what all processes have counted with it; or it couldn't be. */
    written(keys: Keys, rows: readonly FailureCount[], now: Date): void {
      change(keys, -1);
      for (const row of rows) set(row, now, 'nothing');
    },
    /** Takes over what all processes had counted when they were asked: by now, more may be known here. */
    learn(rows: readonly FailureCount[], now: Date): void {
      for (const row of rows) set(row, now, 'known');
    },
  };
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
      this.set(key, { count: (this.find(key, now)?.count ?? 0) + 1, lastAt: now.getTime() });
    },
    set(key: string, { count, lastAt }: Failures): void {
      const earlier = entries.get(key)?.lastAt ?? lastAt;
      entries.delete(key);
      entries.set(key, { count, lastAt: Math.max(lastAt, earlier) });
      if (entries.size <= limits.guessMemoryEntries) return;
      const [oldest] = entries.keys();
      if (oldest !== undefined) entries.delete(oldest);
    },
    /** False where nothing was known. */
    forget(key: string): boolean {
      return entries.delete(key);
    },
  };
}
