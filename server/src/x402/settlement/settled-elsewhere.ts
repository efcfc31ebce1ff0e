import { setTimeout as sleep } from 'node:timers/promises';
import type { BatchDeps } from './settle-batch.ts';
import { settlementOfRow, type Waiting } from './settlement.ts';
import { findSettlements } from './conclusions.sql.ts';

const firstPauseMs = 25;
const slowestPauseMs = 250;

/**
 * Waits for payments that other processes settle: their rows have the word. All of them are looked up in one query, which stops with
 * the last of them. One that has no end at its deadline is pending.
 */
export function createElsewhere(deps: BatchDeps): { add(one: Waiting): void } {
  const waiting = new Set<Waiting>();
  let polling = false;

  async function poll(): Promise<void> {
    polling = true;
    for (let pauseMs = firstPauseMs; waiting.size > 0; pauseMs = Math.min(pauseMs * 1.5, slowestPauseMs)) {
      await look();
      if (waiting.size > 0) await sleep(pauseMs);
    }
    polling = false;
  }

  async function look(): Promise<void> {
    try {
      const payments = [...waiting].map(({ payment }) => payment);
      const rows = await findSettlements(deps.context.db, payments);
      const settlements = new Map(rows.map((row) => [row.id, settlementOfRow(row)]));
      const now = deps.context.clock.now();
      for (const one of waiting) {
        const isLate = now >= one.deadline;
        const settlement = settlements.get(one.payment.id) ?? (isLate ? { kind: 'pending' } : undefined);
        if (!settlement) continue;
        waiting.delete(one);
        one.resolve(settlement);
      }
    } catch (error) {
      deps.report(error);
      for (const one of waiting) one.resolve({ kind: 'pending' });
      waiting.clear();
    }
  }

  return {
    add(one) {
      waiting.add(one);
      // Told here meanwhile, it is nobody's to wait for any more.
      void one.settlement.then(() => waiting.delete(one));
      if (!polling) void poll();
    },
  };
}
