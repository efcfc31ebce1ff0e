import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Database, openDatabase } from '../../server/src/db/index.ts';
import type { Instance } from '../../server/test/helpers/instance.ts';
import type { Stage } from '../bench.ts';

/** Opens the database of an instance that brings its own: to prepare what no API does, and as a witness. */
export async function openInstanceDatabase(stage: Stage, { dataDirectory }: Instance): Promise<Database> {
  const password = (await readFile(join(dataDirectory, 'postgres-password'), 'utf8')).trim();
  // PostgreSQL writes its port on the fourth line.
  const lines = (await readFile(join(dataDirectory, 'pg/postmaster.pid'), 'utf8')).split('\n');
  const url = `postgres://credence:${password}@127.0.0.1:${lines[3]}/credence`;
  const db = openDatabase(url, { poolSize: 2, onError: () => undefined });
  stage.defer(() => db.close());
  return db;
}
