export { writeBatch } from './batch.ts';
export { openDatabase, type Database, type Sql } from './database.ts';
export { migrate } from './migrate.ts';
export { listen } from './notify.ts';
export { type Actor, type AuditEvent, type OutboxEntry } from './evidence-rows.ts';
export { write, type WriteContext } from './write.ts';
