import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { StartupError } from '../kernel/startup-error.ts';
import { locateAnvil } from './binaries.ts';
import { startChild, type Child, type ChildExit } from './child-process.ts';
import { endOrphan, findOrphan, recordChild } from './child-record.ts';
import { callRpc } from './chain-rpc.ts';
import { startChainSaver } from './chain-saver.ts';
import { dumpChainState, loadChainState, saveChainState } from './chain-state.ts';
import type { DataDirectory } from './data-directory.ts';
import type { EndStep } from './end-process.ts';

/** A running chain of our own. */
export interface EmbeddedChain {
  /** `http://127.0.0.1:<port>`: JSON-RPC. */
  url: string;
  /** True if it began at block 0: nothing is planted yet. */
  fresh: boolean;
  /** Puts the present state on disk now, rather than within a second or so. */
  save(): Promise<void>;
  /** Saves the state, ends the chain, and resolves when it has ended. */
  stop(): Promise<void>;
  /** Resolves only if it ends by itself. */
  unexpectedExit: Promise<ChildExit>;
}

const childName = 'chain';
/** anvil has nothing to finish: its state is ours to keep. */
const endSteps: EndStep[] = [
  { signal: 'SIGTERM', waitMs: 3_000 },
  { signal: 'SIGKILL', waitMs: 5_000 },
];
const orphanDumpMsMax = 5_000;
const readyMsMax = 20_000;
/** Blocks whose state can be read by number; older ones would go to disk, one file a block. */
const readableBlocks = 256;

/**
 * Starts the local chain from the state in the data directory; it mines a block for each transaction. What a killed
 * instance left running is ended, after its state was taken over.
 * @param options.port a free one unless given.
 * @throws StartupError when this machine doesn't allow it, or the port is taken.
 */
export async function startChain(options: {
  directory: DataDirectory;
  chainId: number;
  port?: number;
  log: (line: string) => void;
}): Promise<EmbeddedChain> {
  const { directory, log } = options;
  await endOrphanedChain(directory, log);
  const { child, url } = await launch(options);
  try {
    // Logging every call is costly, and would end the chain should we be killed: it can't print to a closed pipe.
    await callRpc(url, 'anvil_setLoggingEnabled', [false]);
    const fresh = !(await loadChainState(directory, url, log));
    recordChild(directory, childName, child.pid, url);
    return supervise(child, url, fresh, directory, log);
  } catch (error) {
    await child.stop();
    throw error;
  }
}

function supervise(
  child: Child,
  url: string,
  fresh: boolean,
  directory: DataDirectory,
  log: (line: string) => void,
): EmbeddedChain {
  const saver = startChainSaver(directory, url, log);
  void child.ended.then(() => saver.stop());
  return {
    url,
    fresh,
    save: () => saver.save(),
    async stop() {
      saver.stop();
      if (!child.exit) {
        await saver.save().catch((error: unknown) => log(`the chain's last state is lost: ${String(error)}`));
      }
      await child.stop();
    },
    unexpectedExit: child.unexpectedExit,
  };
}

async function endOrphanedChain(directory: DataDirectory, log: (line: string) => void): Promise<void> {
  const orphan = findOrphan(directory, childName);
  if (!orphan) return;
  log(`stopping a chain that an earlier run left behind (pid ${orphan.pid})`);
  // It went on mining for nobody, and knows transactions that came after the last save.
  if (orphan.url !== undefined) {
    try {
      await saveChainState(directory, await dumpChainState(orphan.url, orphanDumpMsMax));
    } catch (error) {
      log(`its state can't be taken over, the last save is used: ${String(error)}`);
    }
  }
  await endOrphan(orphan, endSteps);
}

async function launch(options: Parameters<typeof startChain>[0]): Promise<{ child: Child; url: string }> {
  const { directory, chainId, port = 0 } = options;
  const scratch = join(directory.path, 'chain-scratch');
  await rm(scratch, { recursive: true, force: true });
  const listening = Promise.withResolvers<string>();
  const child = await startChild({
    directory,
    name: childName,
    program: locateAnvil(),
    args: [
      '--host=127.0.0.1',
      `--port=${port}`,
      `--chain-id=${chainId}`,
      // No web page may call it: without CORS headers a browser sends no JSON from another origin.
      '--no-cors',
      // A state goes in as one request, and grows.
      '--no-request-size-limit',
      `--prune-history=${readableBlocks}`,
      `--cache-path=${scratch}`,
    ],
    env: { HOME: scratch },
    runAs: undefined,
    endSteps,
    onLine(line) {
      // The banner and the log of calls are noise; the line that tells the port can't come from another program.
      const address = /^Listening on (127\.0\.0\.1:\d+)/.exec(line)?.[1];
      if (address !== undefined) listening.resolve(`http://${address}`);
    },
  });
  return { child, url: await waitUntilListening(child, listening.promise, port) };
}

async function waitUntilListening(child: Child, listening: Promise<string>, port: number): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), readyMsMax);
  });
  const outcome = await Promise.race([listening, child.ended, timeout]);
  clearTimeout(timer);
  if (typeof outcome === 'string') return outcome;
  if (!outcome) {
    await child.stop();
    throw new StartupError(
      `The local chain is not ready after ${readyMsMax / 1_000} s: is the machine overloaded?`,
    );
  }
  if (outcome.lastLines.some((line) => /address already in use/i.test(line))) {
    throw new StartupError(
      `The local chain's port ${port} is in use: stop what listens there, or choose another port.`,
    );
  }
  throw new StartupError(
    `The local chain can't start: ${outcome.lastLines.at(-1) ?? `code ${outcome.code}`}.`,
  );
}
