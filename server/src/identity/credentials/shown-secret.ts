import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';

/** A secret as an answer has it: an answer that is repeated for its `Idempotency-Key` leaves it out after ten minutes. */
export function showSecret(
  made: { secret: string; madeAt: Date },
  now: Date,
): { client_secret: string } | { secret_available: false } {
  return now < addSeconds(made.madeAt, limits.secretShownSeconds)
    ? { client_secret: made.secret }
    : { secret_available: false };
}
