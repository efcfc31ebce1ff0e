import { execFile } from 'node:child_process';
import { chmod, lchown, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { StartupError } from '../kernel/startup-error.ts';
import { hasCode, syncFolder } from './atomic-file.ts';
import type { PostgresBinaries } from './binaries.ts';
import type { DataDirectory } from './data-directory.ts';
import type { OsUser } from './os-user.ts';

const run = promisify(execFile);

/** The role that owns everything in the embedded database. */
export const DATABASE_ROLE = 'credence';

const PASSWORD_FILE = 'postgres-password';
const PASSWORD_BYTES = 24;
const MAJOR_VERSION = '18';

/** PostgreSQL's files, and the password of `DATABASE_ROLE`. */
export type Cluster = { path: string; password: string };

/**
 * Opens `pg/` in the data directory, making it the first time.
 * @throws StartupError when what is there can't be used.
 */
export async function openCluster(
  directory: DataDirectory,
  binaries: PostgresBinaries,
  user: OsUser | undefined,
): Promise<Cluster> {
  const path = join(directory.path, 'pg');
  const version = await readVersion(path);
  if (version === undefined) {
    const password = await directory.getOrCreateSecret(PASSWORD_FILE, PASSWORD_BYTES);
    await createCluster(path, password, binaries, user);
    return { path, password };
  }
  if (version !== MAJOR_VERSION) {
    throw new StartupError(
      `${path} was made by PostgreSQL ${version}, this is ${MAJOR_VERSION}: move its data with pg_dump, or set CREDENCE_DATA_DIR to a new folder.`,
    );
  }
  const password = await directory.findSecret(PASSWORD_FILE);
  if (password === undefined) {
    throw new StartupError(
      `${join(directory.path, PASSWORD_FILE)} is missing, so ${path} can't be opened: restore it from a copy.`,
    );
  }
  if (user) await giveTo(user, path);
  return { path, password };
}

async function readVersion(path: string): Promise<string | undefined> {
  try {
    return (await readFile(join(path, 'PG_VERSION'), 'utf8')).trim();
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw unreadable(path, error);
  }
  try {
    await stat(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
  throw new StartupError(
    `${path} is not a database: move it away, or set CREDENCE_DATA_DIR to another folder.`,
  );
}

function unreadable(path: string, error: unknown): unknown {
  if (!hasCode(error, 'EACCES', 'EPERM')) return error;
  return new StartupError(
    `${path} belongs to another user: start as that user, or as root, or set CREDENCE_DATA_DIR to another folder.`,
  );
}

/** Makes the cluster beside its place and renames it, so that a start killed half-way leaves nothing that looks whole. */
async function createCluster(
  path: string,
  password: string,
  binaries: PostgresBinaries,
  user: OsUser | undefined,
): Promise<void> {
  const workshop = `${path}.new`;
  const [data, passwordFile] = [join(workshop, 'data'), join(workshop, 'password')];
  await rm(workshop, { recursive: true, force: true });
  await mkdir(workshop, { mode: 0o700 });
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (user) await giveTo(user, workshop);
  await runInitdb([`--pgdata=${data}`, `--pwfile=${passwordFile}`], workshop, binaries, user);
  await rename(data, path);
  await syncFolder(join(path, '..'));
  await rm(workshop, { recursive: true, force: true });
}

async function runInitdb(
  args: string[],
  cwd: string,
  binaries: PostgresBinaries,
  user: OsUser | undefined,
): Promise<void> {
  const fixed = [
    `--username=${DATABASE_ROLE}`,
    '--auth=scram-sha-256',
    '--encoding=UTF8',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--locale=C',
    '--no-instructions',
  ];
  try {
    const env = { ...binaries.env, LC_ALL: 'C', PATH: '/usr/bin:/bin', TZ: 'UTC' };
    await run(binaries.initdb, [...fixed, ...args], {
      cwd,
      env,
      ...(user && { uid: user.uid, gid: user.gid }),
    });
  } catch (error) {
    throw new StartupError(`PostgreSQL can't make its files: ${lastLine(error)}.`, { cause: error });
  }
}

function lastLine(error: unknown): string {
  const said = error instanceof Error && 'stderr' in error ? String(error.stderr).trim() : '';
  const line = said.split('\n').find((one) => /error|fatal|could not|cannot/i.test(one));
  return line ?? (error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error));
}

/** Gives a folder to a user, with all that is in it: an earlier start may have run as somebody else. */
async function giveTo(user: OsUser, folder: string): Promise<void> {
  const { uid, mode } = await stat(folder);
  if (uid !== user.uid) {
    for (const name of await readdir(folder, { recursive: true })) {
      await lchown(join(folder, name), user.uid, user.gid);
    }
    await lchown(folder, user.uid, user.gid); // Last, so that a killed start begins again.
  }
  if ((mode & 0o777) !== 0o700) await chmod(folder, 0o700);
}
