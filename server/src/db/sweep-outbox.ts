import { addSeconds, type Clock } from '../kernel/clock.ts';
import { limits } from '../kernel/limits.ts';
import type { Database } from './database.ts';

/**
 * Forgets outbox rows of these topics that nobody has taken for a week: of news that says what is true already, and that nobody is owed.
 * A topic whose rows are work to be done is never among them.
 */
export async function sweepOutbox(
  context: { db: Database; clock: Clock },
  topics: readonly string[],
): Promise<void> {
  const before = addSeconds(context.clock.now(), -limits.newsSeconds);
  for (const topic of topics) {
    let count: number;
    do {
      const rows = await context.db.query(
        `DELETE FROM outbox WHERE id IN (
           SELECT id FROM outbox WHERE topic = $1 AND created_at < $2 ORDER BY created_at LIMIT $3 FOR UPDATE SKIP LOCKED)
         RETURNING 1 AS one`,
        [topic, before, limits.sweepBatch],
      );
      count = rows.length;
    } while (count === limits.sweepBatch);
  }
}
