/** Stops on what can't happen. A caller's mistake is an `AppError`, never an assertion. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}
