import type { Outcome } from '../../db/index.ts';

/** The outcome of a change that made a secret: an answer that is repeated for its `Idempotency-Key` has it for ten minutes only. */
export function withSecret<Made extends { secret: string | null }>(
  result: Made,
  audit: Outcome<Made>['audit'],
): Outcome<Made> {
  return { result, laterResult: { ...result, secret: null }, audit };
}

/** A secret as an answer has it. */
export function showSecret({
  secret,
}: {
  secret: string | null;
}): { client_secret: string } | { secret_available: false } {
  return secret === null ? { secret_available: false } : { client_secret: secret };
}
