import { limits } from './limits.ts';

/** How often in a second something may still be looked up for an address that has to wait. */
export interface LookBudget {
  /** False where it is used up. */
  take(address: string, now: Date): boolean;
}

export function createLookBudget(): LookBudget {
  const used = new Map<string, { second: number; count: number }>();
  return {
    take(address, now) {
      const second = Math.floor(now.getTime() / 1000);
      const known = used.get(address);
      const entry = known?.second === second ? known : { second, count: 0 };
      if (entry.count >= limits.looksWhileWaiting) return false;
      entry.count += 1;
      used.delete(address);
      used.set(address, entry);
      if (used.size > limits.guessMemoryEntries) used.delete(used.keys().next().value ?? '');
      return true;
    },
  };
}
