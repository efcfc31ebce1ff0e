import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { execFile, spawn } from 'node:child_process';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { StartupError } from '../kernel/startup-error.ts';
import { locatePostgresPackage, preparePostgres } from './binaries.ts';
import { openDataDirectory, type DataDirectory } from './data-directory.ts';
import { findDatabaseUser } from './os-user.ts';
import { startPostgres, type EmbeddedPostgres } from './postgres.ts';
import { query } from './query.fixture.ts';
import { makeTemporaryFolder } from './temporary-folder.fixture.ts';

const isRoot = process.getuid?.() === 0;
const running: { stop(): Promise<void> }[] = [];
afterAll(() => Promise.all(running.map((postgres) => postgres.stop())));

async function start(directory: DataDirectory, lines: string[] = []): Promise<EmbeddedPostgres> {
  const postgres = await startPostgres({ directory, log: (line) => lines.push(line) });
  running.push(postgres);
  return postgres;
}

describe('embedded PostgreSQL', () => {
  it('keeps its data over a restart, durably, under the settings that we promise', async () => {
    const directory = await openDataDirectory(await makeTemporaryFolder());
    const first = await start(directory);
    await query(first.url, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await first.stop();
    const second = await start(directory);
    expect(await query(second.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
    const settings = await query(
      second.url,
      `SELECT current_setting('fsync') AS fsync, current_setting('listen_addresses') AS listen,
         current_setting('unix_socket_directories') AS sockets, current_setting('server_encoding') AS encoding,
         current_database() AS database, current_setting('data_checksums') AS checksums`,
    );
    expect(settings).toEqual([
      {
        fsync: 'on',
        listen: '127.0.0.1',
        sockets: '',
        encoding: 'UTF8',
        database: 'credence',
        checksums: 'on',
      },
    ]);
    await second.stop();
    await directory.release();
  });

  it('lets nobody in without the password', async () => {
    const directory = await openDataDirectory(await makeTemporaryFolder());
    const postgres = await start(directory);
    const wrong = new URL(postgres.url);
    wrong.password = 'guess';
    await expect(query(wrong.href, 'SELECT 1')).rejects.toThrow(/password authentication failed/);
    await postgres.stop();
  });

  it('tells when it ends by itself, and says nothing when it is stopped', async () => {
    const directory = await openDataDirectory(await makeTemporaryFolder());
    const postgres = await start(directory);
    const record: { pid: number } = JSON.parse(
      await readFile(join(directory.path, 'children/postgres.json'), 'utf8'),
    );
    process.kill(record.pid, 'SIGQUIT');
    const exit = await postgres.unexpectedExit;
    expect(exit).toMatchObject({ name: 'postgres', code: 0 });
    expect(exit.lastLines.join('\n')).toContain('immediate shutdown');

    const again = await start(directory);
    let isTold = false;
    void again.unexpectedExit.then(() => (isTold = true));
    await again.stop();
    expect(isTold).toBe(false);
  });

  it('clears what a killed initdb left, and refuses a folder that is no database', async () => {
    const directory = await openDataDirectory(await makeTemporaryFolder());
    await mkdir(join(directory.path, 'pg.new-1/data'), { recursive: true });
    await writeFile(join(directory.path, 'pg.new-1/data/PG_VERSION'), '18\n');
    const postgres = await start(directory);
    await postgres.stop();
    expect((await readdir(directory.path)).filter((name) => name.startsWith('pg.'))).toEqual([]);

    await writeFile(join(directory.path, 'pg/PG_VERSION'), '15\n');
    await expect(start(directory)).rejects.toThrow(/made by PostgreSQL 15/);
    await rm(join(directory.path, 'pg/PG_VERSION'));
    await expect(start(directory)).rejects.toBeInstanceOf(StartupError);
  });

  it('starts over a pid file that names a stranger, and leaves the stranger alone', async () => {
    const directory = await openDataDirectory(await makeTemporaryFolder());
    await (await start(directory)).stop();
    // Of the same user: PostgreSQL takes any such process for the owner of its files.
    const user = await findDatabaseUser();
    const stranger = spawn('sleep', ['60'], user ? { uid: user.uid, gid: user.gid } : {});
    const path = join(directory.path, 'pg');
    await writeFile(join(path, 'postmaster.pid'), `${stranger.pid}\n${path}\n1\n0\n\n127.0.0.1\n\n`);
    const again = await start(directory);
    expect(await query(again.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(stranger.signalCode).toBeNull();
    stranger.kill();
    await again.stop();
  });

  it.runIf(isRoot)('runs as another user when we are root, who owns its files and no others', async () => {
    const user = await findDatabaseUser();
    const directory = await openDataDirectory(await makeTemporaryFolder());
    const postgres = await start(directory);
    const record: { pid: number } = JSON.parse(
      await readFile(join(directory.path, 'children/postgres.json'), 'utf8'),
    );
    expect((await stat(`/proc/${record.pid}`)).uid).toBe(user?.uid);
    await postgres.stop();
    const look = async (name: string) => {
      const { mode, uid } = await stat(join(directory.path, name));
      return { mode: mode & 0o777, uid };
    };
    expect(await look('')).toEqual({ mode: 0o711, uid: 0 });
    expect(await look('pg')).toEqual({ mode: 0o700, uid: user?.uid });
    expect(await look('pg/PG_VERSION')).toMatchObject({ uid: user?.uid });
    expect(await look('postgres-password')).toEqual({ mode: 0o600, uid: 0 });
  });

  it.runIf(isRoot)('names the folder that keeps the database user out', async () => {
    const parent = await makeTemporaryFolder();
    const directory = await openDataDirectory(join(parent, 'data'));
    await expect(start(directory)).rejects.toThrow(
      `PostgreSQL runs as user postgres, who can't enter ${parent}: run chmod o+x '${parent}', or set CREDENCE_DATA_DIR`,
    );
  });
});

describe('PostgreSQL programs', () => {
  it.each(['links', 'clone'] as const)('run from a package without its symbolic links (%s)', async (how) => {
    const folder = await makeTemporaryFolder();
    const bare = join(folder, 'package');
    const listing: { target: string }[] = JSON.parse(
      await readFile(join(locatePostgresPackage(), 'native/pg-symlinks.json'), 'utf8'),
    );
    const links = new Set(listing.map(({ target }) => basename(target)));
    await cp(locatePostgresPackage(), bare, {
      recursive: true,
      filter: (path) => !links.has(basename(path)) && !path.endsWith('.a'),
    });
    const run = promisify(execFile);
    await expect(run(join(bare, 'native/bin/postgres'), ['--version'])).rejects.toThrow(
      /shared libraries|dyld/,
    );

    const directory = await openDataDirectory(join(folder, 'data'));
    for (const _ of ['first', 'again']) {
      const { postgres, initdb, env } = await preparePostgres(directory, bare, how);
      expect((await run(postgres, ['--version'], { env })).stdout).toContain('PostgreSQL) 18');
      expect((await run(initdb, ['--version'], { env })).stdout).toContain('PostgreSQL) 18');
    }
  });
});
