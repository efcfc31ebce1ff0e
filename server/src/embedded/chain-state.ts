import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { hasCode, replaceFile } from './atomic-file.ts';
import { callRpc } from './chain-rpc.ts';
import type { DataDirectory } from './data-directory.ts';

const stateFile = 'chain.state';
const previousFile = 'chain.state.previous';

/**
 * Gives a new chain the state that was saved last. A file that the chain can't read is set aside and the save before it is used.
 * @returns false if there is no state to go on from: the chain begins afresh.
 */
export async function loadChainState(
  directory: DataDirectory,
  url: string,
  log: (line: string) => void,
): Promise<boolean> {
  for (const name of [stateFile, previousFile]) {
    const path = join(directory.path, name);
    const state = await readIfThere(path);
    if (!state) continue;
    try {
      const isLoaded = await callRpc(url, 'anvil_loadState', [`0x${state.toString('hex')}`]);
      if (isLoaded === true) return true;
    } catch {
      // Any refusal means the same: this file is not a whole state.
    }
    await rename(path, `${path}.unreadable`);
    log(
      `${path} is unreadable; it is kept as ${name}.unreadable, and the save before it is used if there is one`,
    );
  }
  return false;
}

/** Writes the chain's whole state (compressed JSON) to the data directory, keeping the save before it. */
export async function saveChainState(directory: DataDirectory, state: Buffer): Promise<void> {
  const path = (name: string) => join(directory.path, name);
  await replaceFile(path(stateFile), state, { mode: 0o600, keepAs: path(previousFile) });
}

/** The chain's whole state: accounts, code, storage, blocks, transactions with their receipts. */
export async function dumpChainState(url: string, timeoutMs?: number): Promise<Buffer> {
  const dump = await callRpc(url, 'anvil_dumpState', [], timeoutMs);
  const state = typeof dump === 'string' ? Buffer.from(dump.slice(2), 'hex') : Buffer.alloc(0);
  if (state.length === 0) throw new Error('anvil_dumpState: empty answer');
  return state;
}

async function readIfThere(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}
