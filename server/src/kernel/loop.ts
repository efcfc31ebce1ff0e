/** A task that runs again and again, one run at a time. */
export interface Loop {
  /** Runs it now, or once more after the run that is under way. */
  wake(): void;
  /** Resolves when the last run has ended. */
  stop(): Promise<void>;
}

/** Runs a task at once and then at intervals. A run that throws is reported, and the next one comes as planned. */
export function startLoop(options: {
  intervalMs: number;
  run: () => Promise<unknown>;
  onError: (error: unknown) => void;
}): Loop {
  let stopped = false;
  let again = false;
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
        if (again) begin();
        else timer = setTimeout(begin, options.intervalMs);
      });
  }

  begin();
  return {
    wake() {
      if (stopped) return;
      if (current) again = true;
      else begin();
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await current;
    },
  };
}
