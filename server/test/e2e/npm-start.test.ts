import { mkdtemp, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { findProcess, isAlive, type ProcessIdentity } from '../../src/embedded/process-identity.ts';
import { childrenOf, lookAfter, npmStart, type Watched } from '../helpers/processes.ts';

vi.setConfig({ testTimeout: 60_000 });

/** `npm start`, once it has said that it is ready, with every process that it consists of besides npm. */
async function startReady() {
  const folder = lookAfter(await mkdtemp(join(tmpdir(), 'credence-npm-')));
  const npm = await npmStart({ CREDENCE_DATA_DIR: folder });
  await expect.poll(() => npm.stdout() || npm.stderr(), { timeout: 40_000 }).toContain('Credence is ready');
  const lock = JSON.parse(await readFile(join(folder, 'instance.lock.1'), 'utf8')) as ProcessIdentity;
  const processes = [findProcess(lock.pid) ?? lock, ...(await childrenOf(folder))];
  expect(processes.map(isAlive)).toEqual([true, true, true]);
  return { npm, folder, processes };
}

/** Sends npm a signal; gives its exit code, and which of the others lived when it ended. */
async function endWith(npm: Watched, signals: NodeJS.Signals[], processes: ProcessIdentity[]) {
  for (const signal of signals) {
    npm.process.kill(signal);
    await sleep(20);
  }
  const code = await npm.ended;
  return { code, alive: processes.map(isAlive) };
}

describe('npm start', () => {
  it('tells where everything is, and of the demo', async () => {
    const { npm, folder, processes } = await startReady();
    const info = JSON.parse(await readFile(join(folder, 'dev.json'), 'utf8')) as Record<string, string>;
    for (const name of ['console_url', 'api_url', 'gateway_url', 'demo_url', 'rpc_url'])
      expect(npm.stdout()).toContain(info[name]);
    expect(npm.stdout()).toContain('npm run demo');
    expect(npm.stdout()).toContain('CREDENCE_DEV_PRINCIPAL=off');
    expect(npm.stdout(), 'secrets are for dev.json').not.toContain(info['api_key']);
    expect(npm.stdout()).not.toContain(info['faucet_key']);
    const complaints = npm
      .stderr()
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('npm '));
    expect(complaints).toEqual([]);
    await endWith(npm, ['SIGTERM'], processes);
  });

  it.each([
    { of: 'SIGTERM', signals: ['SIGTERM'] as NodeJS.Signals[] },
    { of: 'SIGINT', signals: ['SIGINT'] as NodeJS.Signals[] },
    { of: 'SIGINT twice', signals: ['SIGINT', 'SIGINT'] as NodeJS.Signals[] },
  ])('ends on $of to npm, after the program, its database and its chain', async ({ signals }) => {
    const { npm, folder, processes } = await startReady();
    expect(await endWith(npm, signals, processes)).toEqual({ code: 0, alive: [false, false, false] });
    expect(await childrenOf(folder)).toEqual([]);
  });
});
