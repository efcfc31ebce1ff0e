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

/** What this process knows of the counts. */
export function createFailureMemory() {
  const tallies = { pair: createTally(), address: createTally(), client: createTally() };
  return {
    ...tallies,
    add(keys: Keys, now: Date): void {
      for (const kind of kinds) tallies[kind].add(keys[kind], now);
    },
    /** Takes over what all processes have counted. */
    learn(rows: readonly FailureCount[]): void {
      for (const { key, count, lastAt } of rows) {
        const kind = kinds.find((one) => key.startsWith(`${one} `));
        if (kind) tallies[kind].set(key, { count, lastAt: lastAt.getTime() });
      }
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
