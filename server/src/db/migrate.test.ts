import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { openTestDatabase } from '../../test/helpers/database.ts';
import type { Database } from './database.ts';
import { migrate } from './migrate.ts';

const run = promisify(execFile);
const ownMigrations = new URL('../../migrations/', import.meta.url);
const now = new Date();
const folders: string[] = [];
afterAll(async () => {
  for (const folder of folders) await rm(folder, { recursive: true });
});

/** A folder of migrations, made from the program's own or from nothing, with these files in it. */
async function makeFolder(files: Record<string, string>, base?: URL): Promise<URL> {
  const folder = await mkdtemp(join(tmpdir(), 'credence-migrations-'));
  folders.push(folder);
  if (base) await cp(base, folder, { recursive: true });
  for (const [name, sql] of Object.entries(files)) await writeFile(join(folder, name), sql);
  return new URL(`${pathToFileURL(folder).href}/`);
}

async function appliedNames(db: Database): Promise<string[]> {
  const rows = await db.query<{ name: string }>('SELECT name FROM schema_migrations ORDER BY version');
  return rows.map((row) => row.name);
}

async function tableExists(db: Database, name: string): Promise<boolean> {
  const [row] = await db.query<{ oid: string | null }>('SELECT to_regclass($1)::text AS oid', [name]);
  return row?.oid !== null;
}

describe('migrate', () => {
  it('applies each migration once, however many processes start on an empty database at once', async () => {
    const { db, url } = await openTestDatabase({ empty: true });
    const starter = new URL('migrate.fixture.ts', import.meta.url).pathname;
    const starts = Array.from({ length: 4 }, () =>
      run(process.execPath, [starter, url, ownMigrations.href]).then(({ stdout }) => Number(stdout)),
    );
    const counts = await Promise.all(starts);

    const files = (await readdir(ownMigrations)).toSorted();
    expect(counts.toSorted((a, b) => a - b)).toEqual([0, 0, 0, files.length]);
    expect(await appliedNames(db)).toEqual(files);
  });

  it('applies only what is new, in the order of its numbers', async () => {
    const { db } = await openTestDatabase({ empty: true });
    const first = { '0001_first.sql': 'CREATE TABLE first (id int)' };
    await migrate(db, await makeFolder(first), now);
    const second = { '0002_second.sql': 'ALTER TABLE first RENAME TO second' };
    const third = { '0003_third.sql': 'ALTER TABLE second RENAME TO third' };
    const folder = await makeFolder({ ...third, ...second, ...first });

    expect(await migrate(db, folder, now)).toEqual({ applied: 2 });
    expect(await tableExists(db, 'third')).toBe(true);
    expect(await migrate(db, folder, now)).toEqual({ applied: 0 });
  });

  it('refuses a database that a newer program has migrated, and says which migration it does not know', async () => {
    const { db } = await openTestDatabase();
    const [count] = await db.query<{ next: number }>(
      'SELECT max(version) + 1 AS next FROM schema_migrations',
    );
    const name = `${String(count?.next).padStart(4, '0')}_of_the_future.sql`;
    await migrate(db, await makeFolder({ [name]: 'SELECT 1' }, ownMigrations), now);

    await expect(migrate(db, ownMigrations, now)).rejects.toThrow(
      expect.objectContaining({ name: 'StartupError', message: expect.stringContaining(name) }),
    );
  });

  it('refuses a migration that was changed after it was applied, and names the file', async () => {
    const { db } = await openTestDatabase({ empty: true });
    await migrate(db, await makeFolder({ '0001_things.sql': 'CREATE TABLE things (id int)' }), now);
    const changed = await makeFolder({ '0001_things.sql': 'CREATE TABLE things (id bigint)' });

    await expect(migrate(db, changed, now)).rejects.toThrow(
      expect.objectContaining({ name: 'StartupError', message: expect.stringContaining('0001_things.sql') }),
    );
  });

  it('leaves nothing of a migration that can’t be recorded', async () => {
    const { db } = await openTestDatabase({ empty: true });
    const taken = "CREATE TABLE half (id int); INSERT INTO schema_migrations VALUES (1, 'x', 'x', now())";
    await expect(migrate(db, await makeFolder({ '0001_half.sql': taken }), now)).rejects.toThrow(
      'duplicate key',
    );
    expect(await appliedNames(db)).toEqual([]);
    expect(await tableExists(db, 'half')).toBe(false);
  });

  it('leaves nothing of a migration that fails, and the next start goes on from there', async () => {
    const { db } = await openTestDatabase({ empty: true });
    const good = { '0001_good.sql': 'CREATE TABLE good (id int)' };
    const half = 'CREATE TABLE half (id int); SELECT * FROM nowhere';
    await expect(migrate(db, await makeFolder({ ...good, '0002_half.sql': half }), now)).rejects.toThrow(
      'nowhere',
    );
    expect(await appliedNames(db)).toEqual(['0001_good.sql']);
    expect(await tableExists(db, 'half')).toBe(false);

    const mended = await makeFolder({ ...good, '0002_half.sql': 'CREATE TABLE half (id int)' });
    expect(await migrate(db, mended, now)).toEqual({ applied: 1 });
    expect(await tableExists(db, 'half')).toBe(true);
  });

  it('refuses a folder whose numbers have a gap', async () => {
    const { db } = await openTestDatabase({ empty: true });
    const gap = await makeFolder({ '0001_one.sql': 'SELECT 1', '0003_three.sql': 'SELECT 1' });
    await expect(migrate(db, gap, now)).rejects.toThrow('0003_three.sql should be number 2');
  });
});
