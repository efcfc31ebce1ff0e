import type { Clock } from '../kernel/clock.ts';
import type { Database, Sql } from './database.ts';
import {
  type AuditEvent,
  insertAuditEvents,
  insertOutboxEntries,
  type OutboxEntry,
} from './evidence-rows.ts';
import { runRetrying } from './retry.ts';

export interface BatchOutcome<T> {
  result: T;
  /** One for each thing that has come to its outcome; a step on the way has none. */
  audits: readonly AuditEvent[];
  outbox?: readonly OutboxEntry[];
}

/**
 * As `write()`, for hot paths that change many things of many owners at once: one transaction with all of their audit
 * events and outbox rows. Knows no `Idempotency-Key`, so what it does must be safe to repeat by itself.
 */
export async function writeBatch<T>(
  context: { db: Database; clock: Clock },
  change: (sql: Sql, now: Date) => Promise<BatchOutcome<T>>,
): Promise<T> {
  return runRetrying(context.db, async (sql) => {
    const now = context.clock.now();
    const outcome = await change(sql, now);
    await Promise.all([
      insertAuditEvents(sql, now, outcome.audits),
      insertOutboxEntries(sql, now, outcome.outbox ?? []),
    ]);
    return outcome.result;
  });
}
