import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { isAlive, type ProcessIdentity } from '../../src/embedded/process-identity.ts';
import { findFreePort, type Instance } from './instance.ts';

const root = new URL('../../../', import.meta.url).pathname;
const mainFile = join(root, 'server/src/main.ts');

/** A process that a test looks after: what it prints, and how it ends. */
export interface Watched {
  process: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Resolves with the exit code when it has ended; `null` where a signal ended it. */
  ended: Promise<number | null>;
}

const watchedProcesses: Watched[] = [];
const recorded: ProcessIdentity[] = [];
const folders: string[] = [];

// A test that fails half-way, and one that kills its instance, leave processes behind.
afterAll(async () => {
  for (const { process: child, ended } of watchedProcesses) {
    child.kill('SIGKILL');
    await ended;
  }
  for (const folder of folders) recorded.push(...(await childrenOf(folder)));
  for (const child of recorded.filter(isAlive)) process.kill(child.pid, 'SIGKILL');
  for (const folder of folders) await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

/** A folder that is removed after the test file, and whose database and chain are ended then if they still run. */
export function lookAfter(dataDirectory: string): string {
  folders.push(dataDirectory);
  return dataDirectory;
}

/** The database and the chain that an instance has running, as its data directory records them. */
export async function childrenOf(dataDirectory: string): Promise<ProcessIdentity[]> {
  const folder = join(dataDirectory, 'children');
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.json'));
  const texts = await Promise.all(names.toSorted().map((name) => readFile(join(folder, name), 'utf8')));
  return texts.map((text) => JSON.parse(text) as ProcessIdentity);
}

/** One child by its record's name: `chain` or `postgres`. */
export async function childOf(dataDirectory: string, name: string): Promise<ProcessIdentity> {
  return JSON.parse(await readFile(join(dataDirectory, `children/${name}.json`), 'utf8')) as ProcessIdentity;
}

/** Starts the program with these settings and no others, on ports of its own unless told. */
export async function startMain(settings: Record<string, string>): Promise<Watched> {
  return watch(process.execPath, [mainFile], { ...(await freePorts()), ...settings });
}

/** `npm start` at the repository's root, as a person types it. */
export async function npmStart(settings: Record<string, string>): Promise<Watched> {
  return watch('npm', ['start'], { ...(await freePorts()), ...settings });
}

async function freePorts(): Promise<{ PORT: string; GATEWAY_PORT: string }> {
  return { PORT: String(await findFreePort()), GATEWAY_PORT: String(await findFreePort()) };
}

/** Kills the instance's own process alone, as an out-of-memory killer does, and waits until it is gone. */
export async function killMain(instance: Instance): Promise<void> {
  recorded.push(...(await childrenOf(instance.dataDirectory)));
  const ended = once(instance.process, 'exit');
  instance.process.kill('SIGKILL');
  await ended;
}

function watch(command: string, args: string[], settings: Record<string, string>): Watched {
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn(command, args, {
    cwd: root,
    env: { PATH, HOME, ...settings },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const printed = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (printed.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (printed.stderr += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', (code) => resolve(code));
  });
  const watched = { process: child, stdout: () => printed.stdout, stderr: () => printed.stderr, ended };
  watchedProcesses.push(watched);
  return watched;
}
