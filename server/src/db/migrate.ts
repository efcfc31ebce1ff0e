import { readdir, readFile } from 'node:fs/promises';
import { sha256 } from '../kernel/crypto.ts';
import { StartupError } from '../kernel/startup-error.ts';
import type { Database } from './database.ts';

interface Migration {
  version: number;
  name: string;
  sql: string;
  sha256: string;
}

/** Serialises concurrent starters; any number does, as long as nothing else uses it. */
const migrationLock = 5_208_031_113n;

/**
 * Brings the database to this program's schema: forward only, each file in a transaction of its own.
 * Any number of processes may start at once. Throws `StartupError` where the database is newer than the
 * program, where an applied file was changed since, or where there is no database to be reached.
 */
export async function migrate(db: Database, directory: URL, now: Date): Promise<{ applied: number }> {
  const migrations = await readMigrations(directory);
  const client = await connect(db);
  try {
    await client.query('SELECT pg_advisory_lock($1)', [migrationLock]);
    await client.query(`CREATE TABLE IF NOT EXISTS schema_migrations (
      version int PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL, applied_at timestamptz NOT NULL)`);
    const { rows } = await client.query<{ version: number; name: string; sha256: string }>(
      'SELECT version, name, sha256 FROM schema_migrations ORDER BY version',
    );
    for (const row of rows) refuseUnknown(row, migrations);

    const pending = migrations.slice(rows.length);
    for (const migration of pending) {
      await client.query('BEGIN');
      await client.query(migration.sql);
      await client.query('INSERT INTO schema_migrations VALUES ($1, $2, $3, $4)', [
        migration.version,
        migration.name,
        migration.sha256,
        now,
      ]);
      await client.query('COMMIT');
    }
    return { applied: pending.length };
  } finally {
    // Ending the session rolls an open transaction back and frees the lock.
    await client.end();
  }
}

/** The first connection of a start: that it fails is mostly a setting's fault. */
async function connect(db: Database): ReturnType<Database['connect']> {
  try {
    return await db.connect();
  } catch (error) {
    // Several addresses that were tried in vain come as one error without a message.
    const { message, code } = error as NodeJS.ErrnoException;
    throw new StartupError(
      `the database can't be reached (${message || code}): check DATABASE_URL, and that it is running`,
      { cause: error },
    );
  }
}

function refuseUnknown(
  applied: { version: number; name: string; sha256: string },
  migrations: Migration[],
): void {
  const known = migrations[applied.version - 1];
  if (!known) {
    throw new StartupError(
      `the database is newer than this program (it has migration ${applied.name}): start the newer version`,
    );
  }
  if (known.sha256 !== applied.sha256) {
    throw new StartupError(
      `migration ${known.name} was changed after it was applied to this database: restore the file and add a new one`,
    );
  }
}

async function readMigrations(directory: URL): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith('.sql')).toSorted();
  return Promise.all(
    names.map(async (name, index) => {
      const version = Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(name)?.[1]);
      if (version !== index + 1) throw new Error(`migration ${name} should be number ${index + 1}`);
      const sql = await readFile(new URL(name, directory), 'utf8');
      return { version, name, sql, sha256: sha256(sql).toString('hex') };
    }),
  );
}
