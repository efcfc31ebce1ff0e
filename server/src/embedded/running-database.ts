import { readFile, realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { readSecret } from './data-directory.ts';
import { postgresPasswordFile } from './postgres-cluster.ts';
import { connectionUrl } from './postgres-ready.ts';

/**
 * The embedded database of the instance that runs over this data directory, for a command beside it; nothing where none does.
 * Only looks: neither locks nor starts anything.
 */
export async function findRunningDatabase(dataDirectory: string): Promise<string | undefined> {
  const folder = await realpath(dataDirectory).catch(() => undefined);
  if (folder === undefined) return undefined;
  // PostgreSQL's own note: pid, data directory, time of start, port.
  const note = await readFile(join(folder, 'pg/postmaster.pid'), 'utf8').catch(() => '');
  const port = Number(note.split('\n')[3]);
  const password = await readSecret(join(folder, postgresPasswordFile));
  return port > 0 && password !== undefined ? connectionUrl(port, password) : undefined;
}
