export { openDatabase, type Database, type Sql } from './database.ts';
export { migrate } from './migrate.ts';
export { listen } from './notify.ts';
export { type Actor, write, type WriteContext } from './write.ts';
