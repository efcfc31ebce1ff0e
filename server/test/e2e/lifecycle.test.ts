import { once } from 'node:events';
import { mkdtemp, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { isAlive } from '../../src/embedded/process-identity.ts';
import { createChain, networks } from '../../src/x402/index.ts';
import { type DevelopmentInfo, type Instance, startInstance } from '../helpers/instance.ts';
import { childOf, childrenOf, killMain, lookAfter } from '../helpers/processes.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

// Each test starts the whole program, some twice, on a machine that does other things too.
vi.setConfig({ testTimeout: 90_000 });

const instances: Instance[] = [];
const upstreams: Upstream[] = [];
afterAll(async () => {
  for (const instance of instances) await instance.stop();
  for (const upstream of upstreams) await upstream.close();
});

const newFolder = async () => lookAfter(await mkdtemp(join(tmpdir(), 'credence-life-')));

async function start(dataDirectory: string): Promise<Instance> {
  const instance = await startInstance({ dataDirectory });
  instances.push(instance);
  return instance;
}

async function post<Answer>(url: string, body: unknown): Promise<Answer> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return (await response.json()) as Answer;
}

const register = (info: DevelopmentInfo) =>
  post<{ agent_id: string; token: string }>(`${info.api_url}/register`, {
    email: 'agent@example.com',
    agent_name: 'Agent',
    client_info: 'test',
  });

function balanceOfFaucet(info: DevelopmentInfo): Promise<bigint> {
  const chain = createChain({ network: networks.sandbox, rpcUrl: info.rpc_url, finality: 'instant' });
  return chain.balanceOf(privateKeyToAccount(info.faucet_key).address);
}

/** Sells an upstream's free path `/slow` and gives its URL at the gateway. */
async function publishSlow(info: DevelopmentInfo, upstream: Upstream): Promise<string> {
  const server = await post<{ id: string; url: string }>(`${info.api_url}/v1/servers`, {
    name: 'Slow',
    base_url: upstream.url,
  });
  const path = `${info.api_url}/v1/servers/${server.id}`;
  await post(`${path}/endpoints`, { public_path: '/slow', price: '$0' });
  await post(`${path}/publish`, {});
  return `${server.url}/slow`;
}

describe('an instance that is ready', () => {
  it('has written where everything is and with which keys, for its owner alone', async () => {
    const { info, dataDirectory } = await start(await newFolder());
    expect(info).toEqual({
      api_url: expect.stringMatching(/^http:\/\/localhost:\d+$/),
      gateway_url: expect.stringMatching(/^http:\/\/localhost:\d+$/),
      rpc_url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
      console_url: `${info.api_url}/`,
      api_key: expect.stringMatching(/^awx_test_/),
      organisation_id: expect.stringMatching(/^org_/),
      environment_id: expect.stringMatching(/^env_/),
      wallet_address: expect.stringMatching(/^0x[0-9a-fA-F]{40}$/),
      faucet_key: expect.stringMatching(/^0x[0-9a-f]{64}$/),
      demo_url: `${info.gateway_url}/api/demo/sun`,
    });
    expect((await stat(join(dataDirectory, 'dev.json'))).mode & 0o777).toBe(0o600);
    expect(await balanceOfFaucet(info)).toBe(100_000_000n);
    expect((await fetch(info.demo_url, { headers: { 'x-agent-id': 'agent' } })).status).toBe(402);
    expect((await fetch(info.console_url)).headers.get('content-type')).toContain('text/html');
  });

  it('shares nothing with another that runs beside it', async () => {
    const [one, other] = [await start(await newFolder()), await start(await newFolder())];
    for (const member of [
      'api_url',
      'gateway_url',
      'rpc_url',
      'api_key',
      'organisation_id',
      'faucet_key',
    ] as const)
      expect(one.info[member]).not.toBe(other.info[member]);
    const answer = await fetch(`${other.info.api_url}/v1/servers`, {
      headers: { 'x-api-key': one.info.api_key },
    });
    expect(answer.status).toBe(401);
    await one.stop();
    expect((await fetch(`${other.info.api_url}/health/ready`)).status).toBe(200);
  });
});

describe('a signal', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    '%s ends the instance and its children, with code 0',
    async (signal) => {
      const instance = await start(await newFolder());
      const children = await childrenOf(instance.dataDirectory);
      expect(children.map(isAlive)).toEqual([true, true]);

      const ended = once(instance.process, 'exit');
      instance.process.kill(signal);
      expect(await ended).toEqual([0, null]);
      expect(children.map(isAlive), 'the database and the chain').toEqual([false, false]);
      expect(await childrenOf(instance.dataDirectory), 'nothing is left to be ended').toEqual([]);
    },
  );

  it('that comes again, as npm passes Ctrl-C on, changes nothing', async () => {
    const instance = await start(await newFolder());
    const children = await childrenOf(instance.dataDirectory);
    const ended = once(instance.process, 'exit');
    for (let times = 0; times < 5; times += 1) {
      instance.process.kill('SIGINT');
      await sleep(20);
    }
    expect(await ended).toEqual([0, null]);
    expect(children.map(isAlive)).toEqual([false, false]);
  });

  it('waits for the call that is under way, takes no new one, and then ends at once', async () => {
    const instance = await start(await newFolder());
    const upstream = await startUpstream(
      (_request, response) => void setTimeout(() => response.end('late'), 1_000),
    );
    upstreams.push(upstream);
    const url = await publishSlow(instance.info, upstream);
    const call = fetch(url, { headers: { 'x-agent-id': 'agent' } });
    await expect.poll(() => upstream.requests.length).toBe(1);

    const ended = once(instance.process, 'exit');
    instance.process.kill('SIGTERM');
    await sleep(200);
    await expect(fetch(`${instance.info.api_url}/health/live`), 'a new connection').rejects.toThrow(
      'fetch failed',
    );
    const answer = await call;
    expect([answer.status, await answer.text()]).toEqual([200, 'late']);
    const answeredAt = Date.now();
    expect(await ended).toEqual([0, null]);
    expect(Date.now() - answeredAt, 'a kept-alive connection holds nothing up').toBeLessThan(5_000);
  });
});

describe('after kill -9', () => {
  it.each([
    { of: 'its own process alone', everything: false },
    { of: 'everything', everything: true },
  ])('of $of, the next start comes up by itself and has kept its data', async ({ everything }) => {
    const folder = await newFolder();
    const killed = await start(folder);
    const agent = await register(killed.info);
    const balance = await balanceOfFaucet(killed.info);
    // The chain's state is on disk a second after it changed.
    await sleep(2_500);
    const children = await childrenOf(folder);
    await killMain(killed);
    expect(children.map(isAlive), 'orphans').toEqual([true, true]);
    if (everything) for (const { pid } of children) process.kill(pid, 'SIGKILL');

    const next = await start(folder);
    expect(children.map(isAlive)).toEqual([false, false]);
    const refreshed = await post<{ jwt: string }>(`${next.info.api_url}/refresh`, agent);
    expect(refreshed.jwt).toMatch(/^ey/);
    expect(await balanceOfFaucet(next.info)).toBe(balance);
    const { api_key, organisation_id, environment_id, wallet_address, faucet_key } = killed.info;
    expect(next.info).toMatchObject({ api_key, organisation_id, environment_id, wallet_address, faucet_key });
    expect((await fetch(next.info.demo_url, { headers: { 'x-agent-id': 'agent' } })).status).toBe(402);
  });
});

describe('a child that ends by itself', () => {
  it.each(['postgres', 'chain'])('%s takes the instance down, which says so in one line', async (name) => {
    const instance = await start(await newFolder());
    const children = await childrenOf(instance.dataDirectory);
    const { pid } = await childOf(instance.dataDirectory, name);
    const ended = once(instance.process, 'exit');
    process.kill(pid, 'SIGKILL');

    expect(await ended).toEqual([1, null]);
    const said = instance
      .output()
      .split('\n')
      .filter((line) => line.startsWith('credence: '));
    expect(said, instance.output()).toEqual([expect.stringContaining(`${name} has ended by itself`)]);
    expect(children.map(isAlive)).toEqual([false, false]);
  });
});
