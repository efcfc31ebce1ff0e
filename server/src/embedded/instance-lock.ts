import { randomUUID } from 'node:crypto';
import { link, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StartupError } from '../kernel/startup-error.ts';
import { hasCode } from './atomic-file.ts';
import { getOwnProcess, isAlive, type ProcessIdentity } from './process-identity.ts';

/** A killed process can stay visible this long while the system takes it down. */
const dyingMsMax = 2_000;
const pollMs = 50;

type Holder = ProcessIdentity & { released?: true };

/**
 * Takes the lock of a data directory for this process.
 *
 * The lock is a file `instance.lock.<n>`; who holds the highest number holds the directory. A successor creates the next
 * number with link(2), which only one can do, and deletes lower ones. So a stale lock is never deleted before it has a
 * successor, and two starters that both find it stale can't delete each other's.
 * @throws StartupError when another live process holds it; the message names its pid.
 */
export async function takeInstanceLock(folder: string): Promise<{ release(): Promise<void> }> {
  const own = getOwnProcess();
  const deadline = Date.now() + dyingMsMax;
  for (;;) {
    const latest = (await listNumbers(folder)).at(-1);
    const holder = latest === undefined ? undefined : await readHolder(folder, latest);
    if (holder && !holder.released && isAlive(holder)) {
      if (holder.pid === own.pid || Date.now() > deadline) {
        throw new StartupError(
          `${folder} is in use by another Credence (pid ${holder.pid}): stop it, or set CREDENCE_DATA_DIR to another folder.`,
        );
      }
      await sleep(pollMs);
      continue;
    }
    const mine = (latest ?? 0) + 1;
    if (await claim(folder, mine, own)) {
      return { release: () => replaceHolder(folder, mine, { ...own, released: true }) };
    }
  }
}

async function claim(folder: string, number: number, own: Holder): Promise<boolean> {
  const temporary = join(folder, `.lock-${randomUUID()}`);
  await writeFile(temporary, JSON.stringify(own), { mode: 0o600, flag: 'wx' });
  try {
    await link(temporary, lockPath(folder, number));
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
  const numbers = await listNumbers(folder);
  // Others may have come, gone and tidied up between our look and our link: then a higher number rules.
  if (numbers.at(-1) !== number) {
    await rm(lockPath(folder, number), { force: true });
    return false;
  }
  for (const older of numbers.slice(0, -1)) await rm(lockPath(folder, older), { force: true });
  return true;
}

/** A released lock stays as a file, so that numbers only grow. */
async function replaceHolder(folder: string, number: number, holder: Holder): Promise<void> {
  const temporary = join(folder, `.lock-${randomUUID()}`);
  await writeFile(temporary, JSON.stringify(holder), { mode: 0o600, flag: 'wx' });
  await rename(temporary, lockPath(folder, number));
}

async function listNumbers(folder: string): Promise<number[]> {
  const names = await readdir(folder);
  return names
    .map((name) => /^instance\.lock\.(\d+)$/.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((a, b) => a - b);
}

async function readHolder(folder: string, number: number): Promise<Holder | undefined> {
  try {
    const holder: Holder = JSON.parse(await readFile(lockPath(folder, number), 'utf8'));
    return holder;
  } catch (error) {
    // Content that a power failure tore belongs to a process that the same failure ended.
    if (hasCode(error, 'ENOENT') || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function lockPath(folder: string, number: number): string {
  return join(folder, `instance.lock.${number}`);
}
