export { openDatabase, type Database, type Sql } from './database.ts';
export { migrate } from './migrate.ts';
export { listen, type Listener } from './notify.ts';
export { findSqlState, sqlState } from './tables.ts';
export { write, type Actor, type OutboxEntry, type Outcome, type Scope, type WriteContext } from './write.ts';
