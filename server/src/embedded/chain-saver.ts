import { callRpc } from './chain-rpc.ts';
import { dumpChainState, saveChainState } from './chain-state.ts';
import type { DataDirectory } from './data-directory.ts';

const lookEveryMs = 1_000;
/** A dump stops the chain for a moment and grows with its history: these keep dumps under a sixtieth of the time when
 *  blocks come, and under a hundredth when none does (state can change without a block, by anvil's own methods). */
const pausePerDumpActive = 60;
const pausePerDumpIdle = 100;

/** Keeps a chain's state on disk while it runs. */
interface ChainSaver {
  /** Saves now, if anything changed; resolves when it is on disk. */
  save(): Promise<void>;
  /** Saves no more by itself. */
  stop(): void;
}

/** Looks at the chain once a second and saves its state when it has changed. */
export function startChainSaver(
  directory: DataDirectory,
  url: string,
  log: (line: string) => void,
): ChainSaver {
  let timer: NodeJS.Timeout | undefined;
  let isStopped = false;
  let saved: { state: Buffer; block: unknown; atMs: number; tookMs: number } | undefined;
  let queue = Promise.resolve();

  const saveOnce = async (): Promise<void> => {
    const startedMs = performance.now();
    // The block is read first: if one comes in between, the next look saves once too often, not once too seldom.
    const block = await callRpc(url, 'eth_blockNumber');
    const state = await dumpChainState(url);
    if (!saved?.state.equals(state)) await saveChainState(directory, state);
    const now = performance.now();
    saved = { state, block, atMs: now, tookMs: now - startedMs };
  };
  const save = (): Promise<void> => {
    const result = queue.then(saveOnce);
    queue = result.catch(() => undefined);
    return result;
  };
  const isDue = async (): Promise<boolean> => {
    if (!saved) return true;
    const sinceMs = performance.now() - saved.atMs;
    if (sinceMs < saved.tookMs * pausePerDumpActive) return false;
    if (sinceMs >= saved.tookMs * pausePerDumpIdle) return true;
    return (await callRpc(url, 'eth_blockNumber')) !== saved.block;
  };
  const look = async (): Promise<void> => {
    try {
      if (await isDue()) await save();
    } catch (error) {
      if (!isStopped) log(`the chain's state could not be saved: ${String(error)}`);
    }
    if (!isStopped) timer = setTimeout(() => void look(), lookEveryMs);
  };
  timer = setTimeout(() => void look(), lookEveryMs);
  return {
    save,
    stop() {
      isStopped = true;
      clearTimeout(timer);
    },
  };
}
