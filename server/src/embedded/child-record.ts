import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DataDirectory } from './data-directory.ts';
import { endProcess, type EndStep } from './end-process.ts';
import { findProcess, isAliveAndOurs, type ProcessIdentity } from './process-identity.ts';

/** A child as the next start finds it. */
type ChildRecord = ProcessIdentity & {
  /** Where it listens, once that is known. */
  url?: string;
};

/**
 * Records a child. Synchronous, so that nothing comes between its birth and the record; not forced to disk, because a
 * power failure that loses the record ends the child as well.
 */
export function recordChild(directory: DataDirectory, name: string, pid: number, url?: string): void {
  const identity = findProcess(pid);
  if (!identity) return; // It has already ended.
  const record: ChildRecord = { ...identity, ...(url !== undefined && { url }) };
  const path = recordPath(directory, name);
  mkdirSync(join(directory.path, 'children'), { recursive: true, mode: 0o700 });
  writeFileSync(`${path}.tmp`, JSON.stringify(record), { mode: 0o600 });
  renameSync(`${path}.tmp`, path);
}

/** Removes the record of a child that has ended. */
export function forgetChild(directory: DataDirectory, name: string): void {
  rmSync(recordPath(directory, name), { force: true });
}

/** The record of a child that a killed instance left running; undefined if it has ended or its pid is another's now. */
export function findOrphan(directory: DataDirectory, name: string): ChildRecord | undefined {
  let record: ChildRecord;
  try {
    record = JSON.parse(readFileSync(recordPath(directory, name), 'utf8'));
  } catch {
    return undefined;
  }
  return isAliveAndOurs(record) ? record : undefined;
}

/** Ends an orphan and waits until it is gone. Looks again before each signal that the pid is still that process. */
export async function endOrphan(orphan: ProcessIdentity, steps: EndStep[]): Promise<void> {
  const hasEnded = () => !isAliveAndOurs(orphan);
  const signal = (name: NodeJS.Signals) => {
    try {
      process.kill(orphan.pid, name);
    } catch {
      // It ended just now; the next look sees that.
    }
  };
  await endProcess({ hasEnded, signal, steps });
}

function recordPath(directory: DataDirectory, name: string): string {
  return join(directory.path, 'children', `${name}.json`);
}
