/**
 * A reason not to start that the operator can mend: a busy port, an unwritable directory, a wrong setting.
 * `main.ts` prints its message as one line, without a stack, and exits with 1.
 */
export class StartupError extends Error {
  override name = 'StartupError';
}
