import type { Clock } from '../kernel/clock.ts';
import type { Database, Transaction } from './database.ts';
import {
  auditColumns,
  type AuditEvent,
  auditValues,
  insertAuditEvents,
  insertOutboxEntries,
  type OutboxEntry,
  unnestAudits,
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
  change: (sql: Transaction, now: Date) => Promise<BatchOutcome<T>>,
): Promise<T> {
  return runRetrying(context.db, async (sql) => {
    const now = context.clock.now();
    const outcome = await change(sql, now);
    insertAuditEvents(sql, now, outcome.audits);
    insertOutboxEntries(sql, now, outcome.outbox ?? []);
    return outcome.result;
  });
}

/**
 * As `writeBatch`, where the change is a single statement: its audit events ride along in it, so that the transaction is one round
 * trip. `tables` are its common table expressions, with parameters from $11 and the time of the change as $10; the last one is `changed` and
 * has the `position`, from 1, of each thing that was changed: the events at those positions are written, and the others not. Gives them.
 */
export async function writeStatement(
  context: { db: Database; clock: Clock },
  statement: { name: string; tables: string; values: readonly unknown[] },
  audits: readonly AuditEvent[],
): Promise<Set<number>> {
  const rows = await context.db.query<{ position: number }>(
    `WITH ${statement.tables}, events AS (
       INSERT INTO audit_events (${auditColumns})
       SELECT ${auditColumns.replace(', created_at', '')}, $10::timestamptz
       FROM ${unnestAudits(1)} WITH ORDINALITY
         AS event (${auditColumns.replace('created_at', 'position')})
       -- Not a join: in a plan for any number of rows that is a nested loop, with the square of their number.
       WHERE position = ANY (ARRAY(SELECT position FROM changed)))
     SELECT position::int FROM changed`,
    [...auditValues(audits), context.clock.now(), ...statement.values],
    { prepared: statement.name },
  );
  return new Set(rows.map(({ position }) => position));
}
