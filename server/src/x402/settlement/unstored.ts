import { type Sql, writeBatch } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { endAttempts } from '../claims/attempts.sql.ts';
import type { SealedResponse } from '../claims/stored-response.ts';
import type { Payment } from '../payments/payment.ts';
import { batchContext, type ConcludeDeps } from './conclude.ts';

/** Answers that are to be written down with what becomes of their payments, by the payments' ids. */
export type Unstored = ReadonlyMap<string, SealedResponse>;

/**
 * Ends the attempts of these payments, with their answers: responded, or an item of a transaction at once. Those whose attempt was given up
 * meanwhile aren't among the result.
 */
export async function endUnstored(
  sql: Sql,
  payments: readonly Payment[],
  { answers, state, now }: { answers: Unstored; state: 'responded' | 'settling'; now: Date },
): Promise<Payment[]> {
  if (payments.length === 0) return [];
  const ended = await endAttempts(
    sql,
    payments.map((payment) => ({
      payment,
      state,
      failure: null,
      transaction: null,
      delivery: null,
      leaseUntil: null,
      replayable: true,
      stored: answers.get(payment.id) ?? null,
    })),
    now,
    addSeconds(now, limits.storedResponseSeconds),
  );
  return payments.flatMap((payment) =>
    ended.has(payment.id) ? { ...payment, state, leaseUntil: null } : [],
  );
}

/** Stores answers by themselves, where no transaction is written down with them. Gives the payments whose attempt was still their own. */
export function storeAnswers(
  deps: ConcludeDeps,
  payments: readonly Payment[],
  answers: Unstored,
): Promise<Payment[]> {
  return writeBatch(batchContext(deps), async (sql, now) => ({
    result: await endUnstored(sql, payments, { answers, state: 'responded', now }),
    audits: [],
  }));
}
