import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll } from 'vitest';
import type { Point } from '../../src/kernel/points.ts';
import { findFreePort, type Instance, startInstance } from '../helpers/instance.ts';
import { send } from '../helpers/request.ts';
import { relayerKey } from './payment-parts.ts';
import type { Arming, Told } from './points.ts';

const mainFile = new URL('../../src/main.ts', import.meta.url).pathname;
const startMsMax = 60_000;
const reachMsMax = 20_000;
const startsMax = 5;

/** One process of the program in production mode, with one role, that a test can stop at a point and kill. */
export interface Member {
  name: string;
  /** Where a gateway or a control plane listens, also after it was killed and started again. */
  url: string;
  /** From now on whoever reaches this point in it stands still there, or nobody does; who stands already goes on standing. */
  arm(at: Point | undefined): Promise<void>;
  /** The same, and who stood where it was armed for last goes on, in one turn of the event loop. */
  moveTo(at: Point): Promise<void>;
  /** Who stood where it was armed for last goes on, and nobody else is stopped. */
  disarm(): Promise<void>;
  /** Resolves once so many stand at the armed point. */
  standing(count?: number): Promise<void>;
  /** Ends it as an out-of-memory killer does. */
  kill(): Promise<void>;
  /** Starts it, or starts it again where it was killed, armed if told so; resolves when it serves. */
  start(at?: Point): Promise<void>;
  output(): string;
}

/** The program over one database and one chain: a control plane, two gateways and two workers. */
export interface Fleet {
  /** In development mode, so that a test can act as its person. */
  control: Instance;
  gateways: [Member, Member];
  workers: [Member, Member];
}

const running = new Set<ChildProcess>();
const endings: (() => Promise<unknown>)[] = [];
let isOver = false;
afterAll(async () => {
  isOver = true;
  for (const end of endings.splice(0)) await end();
  for (const child of running) child.kill('SIGKILL');
});

/** Under which all gateways are known: a payment for one is good at the other. */
const gatewayUrl = 'https://gateway.test';

/** Starts all five; they are ended after the test file. */
export async function startFleet(ground: {
  databaseUrl: string;
  rpcUrl: string;
  batchContract: string | undefined;
}): Promise<Fleet> {
  // Kept between processes: half of what a start takes is stripping and compiling.
  const cache = await mkdtemp(join(tmpdir(), 'credence-compiled-'));
  endings.push(() => rm(cache, { recursive: true, force: true, maxRetries: 10 }));
  const shared = {
    NODE_COMPILE_CACHE: cache,
    DATABASE_URL: ground.databaseUrl,
    CREDENCE_MASTER_KEY: '07'.repeat(32),
    CREDENCE_GATEWAY_URL: gatewayUrl,
    CREDENCE_SANDBOX_RPC_URL: ground.rpcUrl,
    CREDENCE_SANDBOX_RELAYER_KEY: relayerKey,
    ...(ground.batchContract === undefined ? {} : { CREDENCE_SANDBOX_BATCH_CONTRACT: ground.batchContract }),
  };
  const control = await startInstance({ env: { ...shared, CREDENCE_ROLES: 'control' } });
  endings.push(() => control.stop());
  const production = {
    ...shared,
    CREDENCE_MODE: 'production',
    CREDENCE_PUBLIC_URL: 'https://control.test',
    CREDENCE_HOST: '127.0.0.1',
    CREDENCE_EGRESS_ALLOW: 'upstream=127.0.0.0/8',
    CREDENCE_LOG_LEVEL: 'warn',
  };
  const gateway = async (name: string) => openMember(name, 'gateway', production, await findFreePort());
  const worker = async (name: string) => openMember(name, 'worker', production, await findFreePort());
  const gateways: Fleet['gateways'] = [await gateway('gateway 1'), await gateway('gateway 2')];
  const workers: Fleet['workers'] = [await worker('worker 1'), await worker('worker 2')];
  await Promise.all([...gateways, ...workers].map((member) => member.start()));
  return { control, gateways, workers };
}

/** One process that isn't started yet. It is ended after the test file. */
export function openMember(
  name: string,
  role: 'control' | 'gateway' | 'worker',
  settings: Record<string, string>,
  port: number,
): Member {
  const url = `http://127.0.0.1:${port}`;
  const printed: string[] = [];
  let child: ChildProcess | undefined;
  let standing = 0;
  let isKilled = false;
  let startsLeft = startsMax;

  async function tell(arming: Arming): Promise<void> {
    if (!child?.connected) throw new Error(`${name} isn't there to be armed`);
    standing = 0;
    const isArmed = Promise.withResolvers<void>();
    const listener = (told: Told) => 'armed' in told && isArmed.resolve();
    child.on('message', listener);
    child.send(arming);
    await isArmed.promise;
    child.off('message', listener);
  }

  async function start(at?: Point): Promise<void> {
    isKilled = false;
    child = spawn(process.execPath, ['--conditions=crash-test', mainFile], {
      env: {
        PATH: process.env['PATH'],
        ...settings,
        CREDENCE_ROLES: role,
        PORT: role === 'control' ? String(port) : '1',
        GATEWAY_PORT: role === 'control' ? '1' : String(port),
      },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const started = child;
    running.add(started);
    started.once('exit', (code) => {
      running.delete(started);
      if (started !== child || isKilled || isOver) return;
      // A machine under load may keep a chain from answering in time: whoever runs a service starts it again.
      printed.push(`${name} has ended by itself with ${code}\n`);
      startsLeft -= 1;
      if (startsLeft > 0) void start(at).catch((error: unknown) => printed.push(String(error)));
    });
    for (const stream of [started.stdout, started.stderr]) {
      stream?.on('data', (chunk: Buffer) => printed.push(chunk.toString()));
    }
    started.on('message', (told: Told) => {
      if (started === child && 'reached' in told) standing += 1;
    });
    if (at) await tell({ at, last: 'stay' });
    if (role !== 'worker') await until(() => isServing(url), `${name} serves`, startMsMax);
  }

  /** Waits for what a living process is to do. */
  async function until(holds: () => boolean | Promise<boolean>, what: string, msMax: number): Promise<void> {
    const deadline = Date.now() + msMax;
    while (!(await holds())) {
      if (Date.now() > deadline || startsLeft === 0) throw new Error(`not so: ${what}\n${printed.join('')}`);
      await sleep(10);
    }
  }

  return {
    name,
    url,
    start,
    arm: (at) => tell({ at, last: 'stay' }),
    moveTo: (at) => tell({ at, last: 'go' }),
    disarm: () => tell({ at: undefined, last: 'go' }),
    standing: (count = 1) =>
      until(() => standing >= count, `${count} stand still in ${name}, and not ${standing}`, reachMsMax),
    async kill() {
      if (!child || child.exitCode !== null || child.signalCode !== null) return;
      isKilled = true;
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
    output: () => printed.join(''),
  };
}

/** A plane that has no such path answers 404; one that isn't ready, 503. */
function isServing(url: string): Promise<boolean> {
  return send(`${url}/api/nothing`).then(
    ({ status }) => status === 404,
    () => false,
  );
}
