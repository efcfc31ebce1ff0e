import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, realpath, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { StartupError } from '../kernel/startup-error.ts';
import { hasCode, replaceFile, temporarySuffix } from './atomic-file.ts';
import { takeInstanceLock } from './instance-lock.ts';

/** Marks a folder as ours, so that a slip of the pen (`CREDENCE_DATA_DIR=/tmp`) changes nobody's folder. */
const markerFile = 'credence-data.json';
const layoutVersion = 1;

/** The folder that one running instance keeps everything in. Files are 0600; see `openDataDirectory` for the folder. */
export interface DataDirectory {
  /** Absolute, without symbolic links. */
  path: string;
  /** The secret as hex, or undefined if it was never made. */
  findSecret(name: string): Promise<string | undefined>;
  /** The secret as hex; made of this many random bytes the first time, 0600, and the same ever after. */
  getOrCreateSecret(name: string, bytes: number): Promise<string>;
  /** Replaces a JSON file as a whole; mode 0600 unless told. */
  writeJson(name: string, value: unknown, mode?: number): Promise<void>;
  /** Lets another instance have the directory. Call it last, after the children have ended. */
  release(): Promise<void>;
}

/**
 * Opens, or makes, the data directory and locks it for this process. The folder is 0700, or 0711 for root, whose database
 * runs as another user and must pass through.
 * @throws StartupError when it can't be used: not a folder, not writable, not ours, or held by a live instance.
 */
export async function openDataDirectory(path: string): Promise<DataDirectory> {
  const asked = resolve(path);
  try {
    await makeFolder(asked);
    const folder = await realpath(asked);
    await refuseForeignFolder(folder);
    await setFolderMode(folder);
    const lock = await takeInstanceLock(folder);
    await removeLeftovers(folder);
    await replaceFile(join(folder, markerFile), `${JSON.stringify({ layout: layoutVersion })}\n`, {
      mode: 0o600,
    });
    return describe(folder, () => lock.release());
  } catch (error) {
    throw asStartupError(asked, error);
  }
}

function describe(folder: string, release: () => Promise<void>): DataDirectory {
  const findSecret = (name: string) => readSecret(join(folder, name));
  return {
    path: folder,
    findSecret,
    async getOrCreateSecret(name, bytes) {
      const known = await findSecret(name);
      if (known !== undefined) return known;
      const secret = randomBytes(bytes).toString('hex');
      await replaceFile(join(folder, name), `${secret}\n`, { mode: 0o600 });
      return secret;
    },
    writeJson: (name, value, mode = 0o600) =>
      replaceFile(join(folder, name), `${JSON.stringify(value, null, 2)}\n`, { mode }),
    release,
  };
}

/** The secret in that file as hex, or undefined if it was never made. */
export async function readSecret(path: string): Promise<string | undefined> {
  let text: string;
  try {
    text = (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw asStartupError(path, error);
  }
  if (/^([0-9a-f]{2})+$/.test(text)) return text;
  throw new StartupError(`${path} doesn't hold a secret in hex: restore it from a copy.`);
}

/** Node's own recursive mkdir never ends on a parent that is there but takes no folders (/proc, a dangling link). */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path);
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return;
    if (!hasCode(error, 'ENOENT') || dirname(path) === path) throw error;
    await makeFolder(dirname(path));
    await mkdir(path);
  }
}

async function refuseForeignFolder(folder: string): Promise<void> {
  const names = await readdir(folder);
  // The lock comes before the marker: a start that was killed between the two left only the lock.
  const isOurs = names.some((name) => name === markerFile || name.startsWith('instance.lock.'));
  const isEmpty = names.every((name) => name.startsWith('.') || name === 'lost+found');
  if (isOurs || isEmpty) return;
  throw new StartupError(
    `${folder} holds other files and was not made by Credence: set CREDENCE_DATA_DIR to a new or empty folder.`,
  );
}

async function setFolderMode(folder: string): Promise<void> {
  const wanted = process.getuid?.() === 0 ? 0o711 : 0o700;
  const { mode } = await stat(folder);
  if ((mode & 0o7777) !== wanted) await chmod(folder, wanted);
}

async function removeLeftovers(folder: string): Promise<void> {
  const names = await readdir(folder);
  const leftovers = names.filter((name) => name.endsWith(temporarySuffix));
  await Promise.all(leftovers.map((name) => rm(join(folder, name), { force: true, recursive: true })));
}

function asStartupError(path: string, error: unknown): unknown {
  if (hasCode(error, 'EEXIST', 'ENOTDIR')) {
    return new StartupError(`${path} is not a folder: set CREDENCE_DATA_DIR to one.`);
  }
  if (hasCode(error, 'ENOENT', 'ELOOP', 'ENAMETOOLONG')) {
    return new StartupError(`${path} can't be made: set CREDENCE_DATA_DIR to another folder.`);
  }
  if (hasCode(error, 'EACCES', 'EPERM', 'EROFS')) {
    return new StartupError(
      `${path} can't be written by this user: change its owner, or set CREDENCE_DATA_DIR to another folder.`,
    );
  }
  if (hasCode(error, 'ENOSPC', 'EDQUOT')) {
    return new StartupError(
      `${path}: the disk is full: make room, or set CREDENCE_DATA_DIR to another disk.`,
    );
  }
  return error;
}
