export { type BatchOutcome, writeBatch, writeStatement } from './batch.ts';
export { createDatabaseClock, type DatabaseClock } from './database-clock.ts';
export { openDatabase, type Database, type Sql, type Transaction } from './database.ts';
export { createLane } from './lane.ts';
export { deleteInBatches } from './delete-in-batches.ts';
export { migrate } from './migrate.ts';
export { listen } from './notify.ts';
export {
  type Actor,
  type AuditEntry,
  type AuditEvent,
  type Origin,
  type OutboxEntry,
  type Scope,
} from './evidence-rows.ts';
export {
  createSharedCounts,
  type SharedCounts,
  type SharedLimit,
  sweepSharedCounts,
} from './shared-counts.ts';
export { sweepOutbox } from './sweep-outbox.ts';
export { isRefused } from './tables.ts';
export { type Outcome, refuseReusedKey, sweepIdempotencyKeys, write, type WriteContext } from './write.ts';
export { findInTurn, type RowKey } from './turns.ts';
