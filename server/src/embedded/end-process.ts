import { setTimeout as sleep } from 'node:timers/promises';

/** A signal, and how long to wait for its effect before the next one. */
export interface EndStep {
  signal: NodeJS.Signals;
  waitMs: number;
}

const pollMs = 15;

/**
 * Ends a process with ever stronger signals; resolves when it has ended.
 * @throws Error if it outlives the last step.
 */
export async function endProcess(options: {
  hasEnded: () => boolean;
  signal: (signal: NodeJS.Signals) => void;
  steps: EndStep[];
}): Promise<void> {
  for (const step of options.steps) {
    if (options.hasEnded()) return;
    options.signal(step.signal);
    const deadline = Date.now() + step.waitMs;
    while (Date.now() < deadline) {
      if (options.hasEnded()) return;
      await sleep(pollMs);
    }
  }
  if (!options.hasEnded()) throw new Error('a child process outlived SIGKILL');
}
