import { reach } from '#points';
import { isRefused } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { partition } from '../../kernel/partition.ts';
import type { Payment } from '../payments/payment.ts';
import type { Conclusion } from './conclusions.sql.ts';
import { type BatchDeps, type BatchOrigin, recordBatch, watchBatch } from './settle-batch.ts';
import { type Waiting, wasJustVerified } from './settlement.ts';
import { storeAnswers, type Unstored } from './unstored.ts';

/** Whoever has payments settled in batches. */
export interface Hears {
  tell(told: readonly Conclusion[]): void;
  isOpen(one: Waiting): boolean;
  /** Of a batch, when nothing more is to come of it here. */
  ended(batch: readonly Waiting[]): void;
}

/** Settles a batch; gives those of it that are to be tried again soon. Never rejects. */
export async function runBatch(
  deps: BatchDeps,
  hears: Hears,
  batch: readonly Waiting[],
  steps: Pick<BatchSteps, 'included' | 'prepared'>,
): Promise<Waiting[]> {
  const later = new Set<string>();
  try {
    const payments = batch.map(({ payment }) => payment);
    await settleBatch(deps, payments, {
      ...steps,
      areGood: batch.every(wasJustVerified),
      unstored: unstoredOf(batch),
      stored(takenOver) {
        for (const one of batch) {
          one.unstored = undefined;
          if (takenOver.includes(one.payment)) one.resolve({ kind: 'taken_over' });
        }
      },
      tell: hears.tell,
      later(those) {
        for (const { id } of those) later.add(id);
      },
    });
    hears.ended(batch.filter(({ payment }) => !later.has(payment.id)));
    return batch.filter(({ payment }) => later.has(payment.id));
  } catch (error) {
    deps.report(error);
    await leaveWaiting(deps, batch);
    return [];
  }
}

function unstoredOf(batch: readonly Waiting[]): Unstored {
  return new Map(batch.flatMap(({ payment, unstored }) => (unstored ? [[payment.id, unstored]] : [])));
}

/**
 * Whatever failed, their payments are taken up later. So they have to be stored: unless they are, though that isn't known of a commit
 * that was lost.
 */
async function leaveWaiting(deps: BatchDeps, batch: readonly Waiting[]): Promise<void> {
  const answers = unstoredOf(batch);
  const [waiting, others] = partition(batch, ({ payment }) => answers.has(payment.id));
  for (const { resolve } of others) resolve({ kind: 'pending' });
  if (waiting.length === 0) return;
  const payments = waiting.map(({ payment }) => payment);
  try {
    await storeAnswers(deps, payments, answers);
    for (const { resolve } of waiting) resolve({ kind: 'pending' });
  } catch (error) {
    // One that PostgreSQL refuses to store must not fail its neighbours.
    if (waiting.length > 1 && isRefused(error)) for (const one of waiting) await leaveWaiting(deps, [one]);
    else for (const { reject } of waiting) reject(error);
  }
}

interface BatchSteps extends Required<BatchOrigin> {
  /** The next batch may be prepared. */
  prepared(): void;
  included(tookMs: number): void;
  /** These are to be tried again soon. */
  later(payments: readonly Payment[]): void;
  tell(told: readonly Conclusion[]): void;
  /** Every answer is stored, but for those whose payments another attempt has. */
  stored(takenOver: readonly Payment[]): void;
}

/**
 * One batch from start to end. A batch that reverts as a whole is tried again in halves, and at last alone, so that one payment
 * can't keep the others from being settled.
 */
async function settleBatch(deps: BatchDeps, payments: readonly Payment[], steps: BatchSteps): Promise<void> {
  const deadline = addSeconds(deps.context.clock.now(), limits.settlementMarginSeconds);
  const recording = recordBatch(deps, payments, steps);
  const { recorded, told, later, takenOver } = await recording.finally(() => steps.prepared());
  steps.stored(takenOver);
  steps.tell(told);
  steps.later(later);
  if (!recorded) return;
  const sentAtMs = performance.now();
  const conclusions = await watchBatch(deps, recorded.transaction, deadline, recorded.payments);
  if (!conclusions) return;
  await reach('concluded');
  steps.included(performance.now() - sentAtMs);
  steps.tell(conclusions);
  // Alone it has had its turn: what keeps it may be gone when it is taken up again.
  if (payments.length === 1) return;
  const again = conclusions.flatMap(({ payment, state }) => (state === 'responded' ? [payment] : []));
  const half = Math.ceil(again.length / 2);
  for (const part of [again.slice(0, half), again.slice(half)]) {
    if (part.length > 0)
      await settleBatch(deps, part, {
        ...steps,
        areGood: false,
        unstored: new Map(),
        prepared: () => undefined,
      });
  }
}
