/** A task that runs again and again, one run at a time. */
export interface Loop {
  /** Runs it now, or once more after the run that is under way, or once it has rested. */
  wake(): void;
  /** Resolves when the last run has ended. */
  stop(): Promise<void>;
}

/** Runs a task at once and then at intervals. A run that throws is reported, and the next one comes as planned. */
export function startLoop(options: {
  intervalMs: number;
  /** Woken, it begins no sooner than this after its last run: what comes every few milliseconds is done together. */
  restMs?: number;
  run: () => Promise<unknown>;
  onError: (error: unknown) => void;
}): Loop {
  let stopped = false;
  const { restMs = 0 } = options;
  let again = false;
  let endedMs = -Infinity;
  let timer: NodeJS.Timeout | undefined;
  let current: Promise<void> | undefined;

  function begin(): void {
    clearTimeout(timer);
    again = false;
    current = Promise.try(options.run)
      .then(() => undefined, options.onError)
      .finally(() => {
        current = undefined;
        if (stopped) return;
        endedMs = performance.now();
        timer = setTimeout(begin, again ? restMs : options.intervalMs);
      });
  }

  begin();
  return {
    wake() {
      if (stopped) return;
      const waitMs = endedMs + restMs - performance.now();
      if (current) {
        again = true;
      } else if (waitMs <= 0) {
        begin();
      } else {
        clearTimeout(timer);
        timer = setTimeout(begin, waitMs);
      }
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await current;
    },
  };
}
