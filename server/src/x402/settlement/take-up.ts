import { setTimeout as sleep } from 'node:timers/promises';
import { addSeconds } from '../../kernel/clock.ts';
import { reopenPayment } from '../claims/claims.ts';
import type { Payment } from '../payments/payment.ts';
import { findAbandoned, sweepStoredResponses } from '../payments/payments.sql.ts';
import { listRelayers, resendMissing } from './relayers.ts';
import { type BatchDeps, watchBatch } from './settle-batch.ts';
import type { Settlement } from './settlement.ts';
import { type Conclusion, takeUnwatched } from './settlements.sql.ts';

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
  for (const relayer of await listRelayers(context.db, chain.network.id)) {
    await resendMissing(context.db, chain, relayer, deps.report);
  }
  const now = context.clock.now();
  const unwatched = await takeUnwatched(context.db, {
    network: chain.network.id,
    now,
    leaseUntil: addSeconds(now, roundSeconds),
    limit: takenMax,
  });
  const abandoned = await findAbandoned(context.db, now, addSeconds(now, -respondedGraceSeconds), takenMax);
  const deadline = addSeconds(now, roundSeconds);
  const tasks = [
    ...unwatched.map(async (transaction) => tell((await watchBatch(deps, transaction, deadline)) ?? [])),
    ...abandoned.map((payment) => takeUpOne(deps, payment, settle)),
  ];
  await Promise.all(
    tasks.map((task) =>
      Promise.race([task.catch(deps.report), sleep(roundSeconds * 1000, undefined, { ref: false })]),
    ),
  );
  await sweepStoredResponses(context.db, now);
  return tasks.length;
}

async function takeUpOne(
  { context, chain }: BatchDeps,
  payment: Payment,
  settle: (payment: Payment) => Promise<Settlement>,
): Promise<void> {
  if (payment.state === 'forwarding') {
    await reopenPayment({ ...context, scope: payment.environmentId }, payment, 'interrupted');
  } else if (payment.network === chain.network.id) {
    await settle(payment);
  }
}
