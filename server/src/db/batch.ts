import type { Clock } from '../kernel/clock.ts';
import type { Database, Transaction } from './database.ts';
import {
  auditColumns,
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
 * trip. `tables` are its common table expressions, with parameters from $2 and the time of the change as $1. One of them is `changed`, with
 * a row for each thing that is changed: its `position` among those that were given, from 1, and the columns of its audit event, besides
 * `created_at`. Gives the positions.
 */
export async function writeStatement(
  context: { db: Database; clock: Clock },
  statement: { name: string; tables: string; values: readonly unknown[] },
): Promise<Set<number>> {
  const [row] = await context.db.query<{ positions: number[] | null }>(
    `WITH ${statement.tables}, events AS (
       INSERT INTO audit_events (${auditColumns}) SELECT ${auditColumns.replace('created_at', '$1::timestamptz')} FROM changed)
     SELECT json_agg(position) AS positions FROM changed`,
    [context.clock.now(), ...statement.values],
    { prepared: statement.name },
  );
  return new Set(row?.positions);
}
