import { randomUUID } from 'node:crypto';
import { chmod, lchown, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StartupError } from '../kernel/startup-error.ts';
import { hasCode, syncFolder } from './atomic-file.ts';
import type { PostgresBinaries } from './binaries.ts';
import { startChild } from './child-process.ts';
import type { DataDirectory } from './data-directory.ts';
import type { EndStep } from './end-process.ts';
import type { OsUser } from './os-user.ts';

/** The role that owns everything in the embedded database. */
export const databaseRole = 'credence';

/** The program that makes the files, and its name in the record of children. */
export const initdbProgram = 'initdb';
export const initdbEndSteps: EndStep[] = [
  { signal: 'SIGTERM', waitMs: 3_000 },
  { signal: 'SIGKILL', waitMs: 5_000 },
];

const workshopPrefix = 'pg.new-';
export const postgresPasswordFile = 'postgres-password';
const passwordBytes = 24;
const majorVersion = '18';

/** PostgreSQL's files, and the password of `databaseRole`. */
export interface Cluster {
  path: string;
  password: string;
}

/**
 * Opens `pg/` in the data directory, making it the first time.
 * @throws StartupError when what is there can't be used.
 */
export async function openCluster(
  directory: DataDirectory,
  binaries: PostgresBinaries,
  user: OsUser | undefined,
): Promise<Cluster> {
  await removeWorkshops(directory);
  const path = join(directory.path, 'pg');
  const version = await readVersion(path);
  if (version === undefined) {
    const password = await directory.getOrCreateSecret(postgresPasswordFile, passwordBytes);
    await createCluster(directory, { password, binaries, user });
    return { path, password };
  }
  if (version !== majorVersion) {
    throw new StartupError(
      `${path} was made by PostgreSQL ${version}, this is ${majorVersion}: move its data with pg_dump, or set CREDENCE_DATA_DIR to a new folder.`,
    );
  }
  const password = await directory.findSecret(postgresPasswordFile);
  if (password === undefined) {
    throw new StartupError(
      `${join(directory.path, postgresPasswordFile)} is missing, so ${path} can't be opened: restore it from a copy.`,
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

/**
 * Makes the cluster beside its place and renames it, so that a start killed half-way leaves nothing that looks whole. Each
 * attempt has a folder of its own: helpers of a killed initdb may go on for a moment.
 */
async function createCluster(directory: DataDirectory, make: Omit<Initdb, 'workshop'>): Promise<void> {
  const workshop = join(directory.path, `${workshopPrefix}${randomUUID()}`);
  await mkdir(workshop, { mode: 0o700 });
  await writeFile(join(workshop, 'password'), make.password, { mode: 0o600 });
  if (make.user) await giveTo(make.user, workshop);
  await runInitdb(directory, { ...make, workshop });
  await rename(join(workshop, 'data'), join(directory.path, 'pg'));
  await syncFolder(directory.path);
  await rm(workshop, { recursive: true });
}

/** Clears what a start left that was killed while it made the cluster. */
async function removeWorkshops(directory: DataDirectory): Promise<void> {
  const names = await readdir(directory.path);
  for (const name of names.filter((one) => one.startsWith(workshopPrefix))) {
    await rm(join(directory.path, name), { recursive: true, force: true, maxRetries: 10 });
  }
}

interface Initdb {
  workshop: string;
  password: string;
  binaries: PostgresBinaries;
  user: OsUser | undefined;
}

async function runInitdb(directory: DataDirectory, { workshop, binaries, user }: Initdb): Promise<void> {
  const child = await startChild({
    directory,
    name: initdbProgram,
    program: binaries.initdb,
    args: [
      `--pgdata=${join(workshop, 'data')}`,
      `--pwfile=${join(workshop, 'password')}`,
      `--username=${databaseRole}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--locale=C',
      '--no-instructions',
    ],
    env: { ...binaries.env, LC_ALL: 'C', PATH: '/usr/bin:/bin', TZ: 'UTC' },
    runAs: user,
    endSteps: initdbEndSteps,
    onLine: () => undefined,
  });
  const { code, signal, lastLines } = await child.ended;
  if (code === 0) return;
  const reason = lastLines.find((line) => /error|fatal|could not|cannot/i.test(line)) ?? lastLines.at(-1);
  throw new StartupError(
    `PostgreSQL can't make its files: ${reason ?? `initdb ended with ${signal ?? code}`}.`,
  );
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
