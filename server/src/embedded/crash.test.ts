import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, describe, expect, it } from 'vitest';
import { callRpc } from './chain-rpc.ts';
import { openDataDirectory, startChain, startPostgres } from './index.ts';
import { findProcess, isAlive, type ProcessIdentity } from './process-identity.ts';
import { query } from './query.fixture.ts';
import { makeTemporaryFolder } from './temporary-folder.fixture.ts';

const richAddress = '0x00000000000000000000000000000000000000aa';
const log = (): void => undefined;
const running: { stop(): Promise<void> }[] = [];
const spawned: ChildProcess[] = [];
const recorded: ProcessIdentity[] = [];
afterAll(async () => {
  for (const instance of spawned) instance.kill('SIGKILL');
  await Promise.all(running.map((child) => child.stop()));
  for (const child of recorded.filter(isAlive)) process.kill(child.pid, 'SIGKILL');
});

interface Instance {
  main: ChildProcess;
  postgresUrl: string;
  chainUrl: string;
  children: ProcessIdentity[];
}

function spawnInstance(path: string) {
  const script = new URL('instance.fixture.ts', import.meta.url).pathname;
  const main = spawn(process.execPath, [script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  spawned.push(main);
  return main;
}

async function startInstance(path: string): Promise<Instance> {
  const main = spawnInstance(path);
  const [line] = await once(createInterface({ input: main.stdout }), 'line');
  const urls: { postgresUrl: string; chainUrl: string } = JSON.parse(String(line));
  const read = async (name: string): Promise<ProcessIdentity> =>
    JSON.parse(await readFile(join(path, `children/${name}.json`), 'utf8'));
  const children = [await read('postgres'), await read('chain')];
  recorded.push(...children);
  return { main, ...urls, children };
}

async function kill(main: ChildProcess): Promise<void> {
  const ended = once(main, 'exit');
  main.kill('SIGKILL');
  await ended;
}

async function startHere(path: string) {
  const directory = await openDataDirectory(path);
  const postgres = await startPostgres({ directory, log });
  running.push(postgres);
  const chain = await startChain({ directory, chainId: 84532, log });
  running.push(chain);
  return { postgres, chain };
}

describe('after kill -9', () => {
  it('of the main process alone, the next start ends its children and has all their data', async () => {
    const path = await makeTemporaryFolder();
    const killed = await startInstance(path);
    await query(killed.postgresUrl, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await callRpc(killed.chainUrl, 'anvil_setBalance', [richAddress, '0x1234']);
    await kill(killed.main);
    expect(killed.children.map(isAlive)).toEqual([true, true]);

    const { postgres, chain } = await startHere(path);
    expect(killed.children.map(isAlive)).toEqual([false, false]);
    expect(await query(postgres.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
    expect(await callRpc(chain.url, 'eth_getBalance', [richAddress, 'latest'])).toBe('0x1234');
    await Promise.all([postgres.stop(), chain.stop()]);
  });

  it('of the main process before it recorded the database, the database is found by its own pid file', async () => {
    const path = await makeTemporaryFolder();
    const killed = await startInstance(path);
    await kill(killed.main);
    await rm(join(path, 'children/postgres.json'));
    const { postgres, chain } = await startHere(path);
    expect(killed.children.map(isAlive)).toEqual([false, false]);
    await Promise.all([postgres.stop(), chain.stop()]);
  });

  it('of the main process while the database is being made, the next start makes it again', async () => {
    const path = await makeTemporaryFolder();
    const main = spawnInstance(path);
    const record = join(path, 'children/initdb.json');
    await expect.poll(() => readFile(record, 'utf8').catch(() => ''), { interval: 5 }).not.toBe('');
    const initdb: ProcessIdentity = JSON.parse(await readFile(record, 'utf8'));
    await kill(main);
    // It may live on, or die of the pipe that has lost its reader; either way there is no database yet.
    await expect(access(join(path, 'pg/PG_VERSION'))).rejects.toThrow('ENOENT');
    const { postgres, chain } = await startHere(path);
    expect(isAlive(initdb)).toBe(false);
    expect(await query(postgres.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await Promise.all([postgres.stop(), chain.stop()]);
  });

  it('of everything, the next start comes up with what was committed and saved', async () => {
    const path = await makeTemporaryFolder();
    const killed = await startInstance(path);
    await query(killed.postgresUrl, 'CREATE TABLE kept AS SELECT 42 AS answer');
    await callRpc(killed.chainUrl, 'anvil_setBalance', [richAddress, '0x1234']);
    const state = () => readFile(join(path, 'chain.state'), 'hex').catch(() => '');
    const before = await state();
    await expect.poll(state, { timeout: 5_000 }).not.toBe(before);
    killed.main.kill('SIGKILL');
    for (const child of killed.children) process.kill(child.pid, 'SIGKILL');

    const { postgres, chain } = await startHere(path);
    expect(await query(postgres.url, 'SELECT answer FROM kept')).toEqual([{ answer: 42 }]);
    expect(chain.fresh).toBe(false);
    await Promise.all([postgres.stop(), chain.stop()]);
  });

  it('a pid that now belongs to a stranger is not signalled', async () => {
    const path = await makeTemporaryFolder();
    const stranger = spawn('sleep', ['60']);
    spawned.push(stranger);
    await once(stranger, 'spawn');
    const identity = findProcess(stranger.pid ?? 0);
    await mkdir(join(path, 'children'));
    await writeFile(join(path, 'credence-data.json'), '{}');
    await writeFile(
      join(path, 'children/postgres.json'),
      JSON.stringify({ ...identity, command: 'postgres -D elsewhere' }),
    );
    await writeFile(
      join(path, 'children/chain.json'),
      JSON.stringify({ ...identity, startToken: 'another time' }),
    );
    const { postgres, chain } = await startHere(path);
    expect(identity && isAlive(identity)).toBe(true);
    await Promise.all([postgres.stop(), chain.stop()]);
  });
});

describe('two instances', () => {
  it('run side by side on different directories, their children in groups of their own; a second on the same directory is told the pid of the first', async () => {
    const path = await makeTemporaryFolder();
    const first = await startInstance(path);
    const second = await startInstance(await makeTemporaryFolder());
    await query(first.postgresUrl, 'CREATE TABLE mine AS SELECT 1');
    await expect(query(second.postgresUrl, 'SELECT * FROM mine')).rejects.toThrow(/does not exist/);
    for (const { pid } of first.children) {
      const group = execFileSync('ps', ['-o', 'pgid=', '-p', String(pid)], { encoding: 'utf8' });
      expect(group.trim(), 'a group of its own, apart from the terminal').toBe(String(pid));
    }
    await expect(openDataDirectory(path)).rejects.toThrow(`pid ${first.main.pid}`);
  });
});
