import { reach } from '#points';
import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import type { Payment } from '../payments/payment.ts';
import type { Conclusion } from './conclusions.sql.ts';
import { type BatchDeps, recordBatch, watchBatch } from './settle-batch.ts';
import type { Waiting } from './settlement.ts';

/** Whoever has payments settled in batches. */
export interface Hears {
  tell(told: readonly Conclusion[]): void;
  isOpen(one: Waiting): boolean;
  /** Of a batch, when nothing more is to come of it here. */
  ended(batch: readonly Waiting[]): void;
}

/** What the chain said of a payment no longer ago than this isn't asked again before it is sent. */
const justMs = 1_000;

function wasJustVerified({ verifiedAtMs }: Waiting): boolean {
  return verifiedAtMs !== undefined && performance.now() - verifiedAtMs <= justMs;
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
      tell: hears.tell,
      later(those) {
        for (const { id } of those) later.add(id);
      },
    });
    hears.ended(batch.filter(({ payment }) => !later.has(payment.id)));
    return batch.filter(({ payment }) => later.has(payment.id));
  } catch (error) {
    deps.report(error);
    for (const { resolve } of batch) resolve({ kind: 'pending' });
    return [];
  }
}

interface BatchSteps {
  /** Whether the chain has said of all of them, a moment ago, that they are good. */
  areGood: boolean;
  /** The next batch may be prepared. */
  prepared(): void;
  included(tookMs: number): void;
  /** These are to be tried again soon. */
  later(payments: readonly Payment[]): void;
  tell(told: readonly Conclusion[]): void;
}

/**
 * One batch from start to end. A batch that reverts as a whole is tried again in halves, and at last alone, so that one payment
 * can't keep the others from being settled.
 */
async function settleBatch(deps: BatchDeps, payments: readonly Payment[], steps: BatchSteps): Promise<void> {
  const deadline = addSeconds(deps.context.clock.now(), limits.settlementMarginSeconds);
  const recording = recordBatch(deps, payments, steps.areGood);
  const { recorded, told, later } = await recording.finally(() => steps.prepared());
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
      await settleBatch(deps, part, { ...steps, areGood: false, prepared: () => undefined });
  }
}
