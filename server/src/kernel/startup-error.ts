/**
 * A reason not to start that the operator can mend: a busy port, an unwritable directory, a wrong setting.
 * `main.ts` prints its message as one line, without a stack, and exits with 1.
 */
export class StartupError extends Error {
  override name = 'StartupError';

  constructor(message: string, options?: ErrorOptions) {
    // What it quotes (a setting, a path, a library's words) may have several lines; the operator's line is one.
    super(message.replaceAll(/\s*[\r\n]\s*/g, ' '), options);
  }
}
