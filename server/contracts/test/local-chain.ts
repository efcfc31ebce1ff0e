import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { createTestClient, http, publicActions, walletActions } from 'viem';
import { baseSepolia } from 'viem/chains';

/** A running anvil of chain id 84532. */
export interface LocalChain {
  rpcUrl: string;
  stop: () => Promise<void>;
  /** Ends it with SIGKILL: what it knew is gone. */
  kill: () => Promise<void>;
}

/** Starts anvil on a port that the system chose. */
export async function startLocalChain(): Promise<LocalChain> {
  const system = process.platform;
  const cpu = process.arch === 'x64' ? 'amd64' : process.arch;
  const manifest = fileURLToPath(import.meta.resolve(`@foundry-rs/anvil-${system}-${cpu}/package.json`));
  const binary = join(dirname(manifest), 'bin', process.platform === 'win32' ? 'anvil.exe' : 'anvil');
  const child = spawn(binary, ['--port', '0', '--chain-id', String(baseSepolia.id)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // A test that fails while it sets up never gets to stop it.
  process.once('exit', () => child.kill());
  // The reader stays for good: anvil would block on a full pipe.
  const lines = createInterface({ input: child.stdout });
  const address = await new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`anvil ended with ${code} before it listened`)));
    lines.on('line', (line) => {
      const listening = /^Listening on (\S+)$/.exec(line)?.[1];
      if (listening !== undefined) resolve(listening);
    });
  });
  return {
    rpcUrl: `http://${address}`,
    stop: () => end(child, 'SIGTERM'),
    kill: () => end(child, 'SIGKILL'),
  };
}

async function end(child: ChildProcess, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill(signal);
  await ended;
}

/** One client that reads, sends and bends time. */
export function connect(rpcUrl: string) {
  return createTestClient({
    mode: 'anvil',
    chain: baseSepolia,
    transport: http(rpcUrl),
    pollingInterval: 20,
    cacheTime: 0,
  })
    .extend(publicActions)
    .extend(walletActions);
}
