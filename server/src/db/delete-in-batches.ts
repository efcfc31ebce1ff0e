import { limits } from '../kernel/limits.ts';
import type { Database } from './database.ts';

/**
 * Deletes the rows of a table of which a condition is true, `limits.sweepBatch` in a statement: what a flood has left is let go of piece by
 * piece. The condition's parameters are `$1` and on.
 */
export async function deleteInBatches(
  db: Pick<Database, 'query'>,
  from: { table: string; condition: string; values: readonly unknown[] },
): Promise<void> {
  const { table, condition, values } = from;
  for (;;) {
    const rows = await db.query(
      `DELETE FROM ${table} WHERE ctid = ANY(ARRAY(
         SELECT ctid FROM ${table} WHERE ${condition} LIMIT ${limits.sweepBatch} FOR UPDATE SKIP LOCKED)) RETURNING 1 AS one`,
      [...values],
    );
    if (rows.length < limits.sweepBatch) return;
  }
}
