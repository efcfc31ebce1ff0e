import { setTimeout as sleep } from 'node:timers/promises';
import { addSeconds } from '../../kernel/clock.ts';
import { reopenPayment } from '../claims/claims.ts';
import type { Payment } from '../payments/payment.ts';
import { sweepStoredResponses } from '../payments/payments.sql.ts';
import { listRelayers, resendMissing } from './relayers.ts';
import { type BatchDeps, watchBatch } from './settle-batch.ts';
import type { Settlement } from './settlement.ts';
import type { Conclusion } from './conclusions.sql.ts';
import { takeAbandoned } from './take-up.sql.ts';
import { takeUnwatched } from './transactions.sql.ts';

/** A request that has stored an answer settles it at once; one that hasn't after this long is gone. */
const respondedGraceSeconds = 5;
const takenMax = 200;
/** What was taken up gets this long in one round, so that the next round comes soon whatever hangs. */
const roundSeconds = 5;

/** Takes up attempts, answers and transactions of processes that are gone. Gives how many. */
export async function takeUp(
  deps: BatchDeps,
  settle: (payment: Payment) => Promise<Settlement>,
  tell: (told: readonly Conclusion[]) => void,
): Promise<number> {
  const { context, chain } = deps;
  const now = context.clock.now();
  await sweepStoredResponses(context.db, now);
  const abandoned = await takeAbandoned(context.db, {
    network: chain.network.id,
    respondedForSeconds: respondedGraceSeconds,
    limit: takenMax,
  });
  // First what needs no chain: one that is away must not keep it.
  const interrupted = abandoned.filter(({ state }) => state === 'forwarding');
  await allInTime(
    interrupted.map((payment) => reopen(deps, payment)),
    deps.report,
  );

  for (const relayer of await listRelayers(context.db, chain.network.id)) {
    await resendMissing(context.db, chain, relayer, deps.report);
  }
  const unwatched = await takeUnwatched(context.db, {
    network: chain.network.id,
    now,
    leaseSeconds: roundSeconds,
    limit: takenMax,
  });
  const deadline = addSeconds(now, roundSeconds);
  const answered = abandoned.filter(({ state }) => state !== 'forwarding');
  await allInTime(
    [
      ...unwatched.map(async (transaction) => tell((await watchBatch(deps, transaction, deadline)) ?? [])),
      ...answered.map(settle),
    ],
    deps.report,
  );
  return abandoned.length + unwatched.length;
}

async function allInTime(
  tasks: readonly Promise<unknown>[],
  report: (error: unknown) => void,
): Promise<void> {
  await Promise.all(
    tasks.map((task) =>
      Promise.race([task.catch(report), sleep(roundSeconds * 1000, undefined, { ref: false })]),
    ),
  );
}

async function reopen({ context }: BatchDeps, payment: Payment): Promise<void> {
  await reopenPayment({ ...context, scope: payment.environmentId }, payment, 'interrupted');
}
