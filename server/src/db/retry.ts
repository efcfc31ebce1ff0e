import type { Database, Transaction } from './database.ts';
import { findSqlState, sqlState } from './tables.ts';

const attemptsMax = 5;

/** Runs a transaction, and again where PostgreSQL asks for that: after a deadlock or a serialization failure. */
export async function runRetrying<T>(db: Database, body: (sql: Transaction) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await db.transaction(body);
    } catch (error) {
      const state = findSqlState(error);
      const retryable = state === sqlState.serializationFailure || state === sqlState.deadlockDetected;
      if (!retryable || attempt === attemptsMax) throw error;
    }
  }
}
