export { type Actor, type AuditEvent, insertAuditEvents, type Origin, type Scope } from './audit-events.ts';
export { openDatabase, retryTransaction, type Database, type Sql } from './database.ts';
export { migrate } from './migrate.ts';
export { listen } from './notify.ts';
export { findSqlState } from './tables.ts';
export { write, type WriteContext } from './write.ts';
