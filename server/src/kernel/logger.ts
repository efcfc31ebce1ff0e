import { destination, type Logger, pino } from 'pino';

/** Members whose values never reach a log, wherever they stand. */
const secretMembers = [
  'authorization',
  'token',
  'jwt',
  'key',
  'secret',
  'privateKey',
  'private_key',
  'payment_header',
  'api_key',
  'cookie',
];

/** JSON lines. In development to standard error, beside the banner; in production to standard output. */
export function createLogger(options: { level: string; stream: 'stderr' | 'stdout' }): Logger {
  return pino(
    {
      level: options.level,
      base: null,
      redact: { paths: secretMembers.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
      serializers: { err: describeError },
    },
    destination({ fd: options.stream === 'stderr' ? 2 : 1, sync: false }),
  );
}

/**
 * An error as far as it helps: the first line of its message, and where it came from. The rest of a message may carry what a
 * request or a row held; database and RPC clients print their arguments there.
 */
function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: typeof error };
  const frames = error.stack
    ?.split('\n')
    .filter((line) => /^\s+at /.test(line))
    .slice(0, 12);
  const cause = error.cause instanceof Error ? { cause: describeError(error.cause) } : {};
  const code = 'code' in error && typeof error.code === 'string' ? { code: error.code } : {};
  return {
    type: error.name,
    message: error.message.split('\n', 1)[0],
    ...code,
    stack: frames?.join('\n'),
    ...cause,
  };
}
