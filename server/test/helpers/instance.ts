import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** What `dev.json` says of a running instance. */
export interface DevelopmentInfo {
  api_url: string;
  gateway_url: string;
  rpc_url: string;
  console_url: string;
  api_key: string;
  organisation_id: string;
  environment_id: string;
  wallet_address: string;
  faucet_key: `0x${string}`;
  demo_url: string;
}

/** The real program in a process of its own, with a data directory and ports of its own. */
export interface Instance {
  info: DevelopmentInfo;
  dataDirectory: string;
  process: ChildProcess;
  /** Everything that it has printed, log lines included. */
  output(): string;
  /** Sends SIGTERM and waits for the end; gives the exit code. */
  stop(): Promise<number | null>;
}

export const mainFile = new URL('../../src/main.ts', import.meta.url).pathname;
const startTimeoutMs = 60_000;

/** Starts an instance and waits until it is ready. A `dataDirectory` that is given is kept at the end. */
export async function startInstance(
  options: {
    dataDirectory?: string;
    ports?: { api: number; gateway: number };
    env?: Record<string, string>;
  } = {},
): Promise<Instance> {
  const dataDirectory = options.dataDirectory ?? (await mkdtemp(join(tmpdir(), 'credence-test-')));
  const ports = options.ports ?? { api: await findFreePort(), gateway: await findFreePort() };
  const child = spawn(process.execPath, [mainFile], {
    env: {
      ...withoutSettings(process.env),
      CREDENCE_DATA_DIR: dataDirectory,
      PORT: String(ports.api),
      GATEWAY_PORT: String(ports.gateway),
      CREDENCE_LOG_LEVEL: 'info',
      ...options.env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const printed: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => printed.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => printed.push(chunk));
  const output = () => Buffer.concat(printed).toString();

  await waitUntilReady(`http://localhost:${ports.api}/health/ready`, child, output);
  const info = JSON.parse(await readFile(join(dataDirectory, 'dev.json'), 'utf8')) as DevelopmentInfo;
  return {
    info,
    dataDirectory,
    process: child,
    output,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM');
        await once(child, 'exit');
      }
      if (options.dataDirectory === undefined) await rm(dataDirectory, { recursive: true, force: true });
      return child.exitCode;
    },
  };
}

/** A port that nobody has at this moment. */
export async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address ? address.port : 0;
}

async function waitUntilReady(url: string, child: ChildProcess, output: () => string): Promise<void> {
  const deadline = Date.now() + startTimeoutMs;
  while (Date.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`the instance ended:\n${output()}`);
    const ready = await fetch(url).then(
      (response) => response.ok,
      () => false,
    );
    if (ready) return;
    await sleep(50);
  }
  throw new Error(`the instance did not become ready:\n${output()}`);
}

function withoutSettings(env: NodeJS.ProcessEnv): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(env).filter(
      ([name]) => !name.startsWith('CREDENCE_') && name !== 'DATABASE_URL' && name !== 'PORT',
    ),
  );
}
