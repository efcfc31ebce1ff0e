import { once } from 'node:events';
import { chmod, mkdtemp, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { findFreePort, startInstance } from '../helpers/instance.ts';
import { childrenOf, lookAfter, startMain } from '../helpers/processes.ts';

vi.setConfig({ testTimeout: 60_000 });

const newFolder = async () => lookAfter(await mkdtemp(join(tmpdir(), 'credence-refused-')));

/** Starts the program with settings that it can't start with, and gives the one line that it says. */
async function refusalOf(settings: Record<string, string>): Promise<string> {
  const folder = settings['CREDENCE_DATA_DIR'] ?? (await newFolder());
  const main = await startMain({ CREDENCE_DATA_DIR: folder, ...settings });
  expect({ code: await main.ended, said: main.stderr() }).toMatchObject({ code: 1 });
  expect(main.stdout()).toBe('');
  expect(await childrenOf(folder), 'children that were left running').toEqual([]);
  const lines = main.stderr().split('\n');
  expect(lines, 'one line on standard error').toEqual([expect.stringMatching(/^credence: /), '']);
  return lines[0] ?? '';
}

describe('a start that can’t be', () => {
  it.each([
    ['CREDENCE_DATADIR', '/data', 'CREDENCE_DATADIR'],
    ['PORT', 'garbage', 'PORT=garbage'],
    ['PORT', '99999', 'PORT=99999'],
    ['CREDENCE_MODE', 'production', 'CREDENCE_PUBLIC_URL'],
    ['CREDENCE_HOST', '0.0.0.0', 'CREDENCE_DEV_PRINCIPAL=off'],
    ['CREDENCE_MODE', 'several\nlines', 'CREDENCE_MODE=several lines'],
  ])('with %s=%s says so in one line and exits with 1', async (name, value, said) => {
    expect(await refusalOf({ [name]: value })).toContain(said);
  });

  it.each(['PORT', 'GATEWAY_PORT'])('on a busy %s names the port and the setting', async (name) => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const address = other.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    const refusal = await refusalOf({ [name]: String(port) });
    expect(refusal).toContain(`port ${port} `);
    expect(refusal).toContain(`set ${name} `);
    other.close();
  });

  it('in a folder that is a file, or somebody else’s, names the folder and the setting', async () => {
    const folder = await newFolder();
    await writeFile(join(folder, 'notes.txt'), 'mine');
    for (const path of [folder, join(folder, 'notes.txt'), join(folder, 'notes.txt', 'below')]) {
      const refusal = await refusalOf({ CREDENCE_DATA_DIR: path });
      expect(refusal).toContain(folder);
      expect(refusal).toContain('CREDENCE_DATA_DIR');
    }
  });

  it('in a folder that takes no files names the folder and the cure', async () => {
    // Root may write to any folder on a disk; /proc is one that takes nothing from anybody.
    const isRoot = process.getuid?.() === 0;
    const path = isRoot ? '/proc/credence' : join(await newFolder(), 'below');
    if (!isRoot) await chmod(join(path, '..'), 0o500);
    const refusal = await refusalOf({ CREDENCE_DATA_DIR: path });
    expect(refusal).toContain(path);
    expect(refusal).toContain('CREDENCE_DATA_DIR');
  });

  it('in the folder of another instance names that one’s pid, and leaves it alone', async () => {
    const dataDirectory = await newFolder();
    const first = await startInstance({ dataDirectory });
    const children = await childrenOf(dataDirectory);
    const second = await startMain({ CREDENCE_DATA_DIR: dataDirectory });
    expect(await second.ended).toBe(1);
    expect(second.stderr()).toMatch(new RegExp(`^credence: [^\n]*pid ${first.process.pid}[^\n]*\n$`));
    expect(await childrenOf(dataDirectory)).toEqual(children);
    expect((await fetch(`${first.info.api_url}/health/ready`)).status).toBe(200);
    expect(await first.stop()).toBe(0);
  });

  it('without the database that it was told to use names DATABASE_URL, and keeps its password to itself', async () => {
    const port = await findFreePort();
    const refusal = await refusalOf({ DATABASE_URL: `postgres://me:a-password@127.0.0.1:${port}/credence` });
    expect(refusal).toContain('DATABASE_URL');
    expect(refusal).not.toContain('a-password');
  });

  it('without the chain that it was told to use names the setting of its URL, and keeps the key in it to itself', async () => {
    const url = `http://127.0.0.1:${await findFreePort()}/an-api-key`;
    const relayer = { CREDENCE_SANDBOX_RELAYER_KEY: `0x${'ab'.repeat(32)}` };
    const refusal = await refusalOf({ CREDENCE_SANDBOX_RPC_URL: url, ...relayer });
    expect(refusal).toContain('CREDENCE_SANDBOX_RPC_URL');
    expect(refusal).not.toContain('an-api-key');
  });

  it('with the RPC of another chain names the setting and both chains', async () => {
    const refusal = await refusalOf(await chainSettings({ eth_chainId: '0x1' }));
    expect(refusal).toContain('CREDENCE_SANDBOX_RPC_URL');
    expect(refusal).toMatch(/chain 1,.* 84532/);
    expect(refusal).not.toContain('an-api-key');
  });

  it('with an RPC that fails in the middle of it keeps the key in its URL to itself', async () => {
    const main = await startMain({
      CREDENCE_DATA_DIR: await newFolder(),
      ...(await chainSettings({ eth_chainId: '0x14a34' })),
    });
    expect(await main.ended).toBe(1);
    expect(main.stderr()).toMatch(/^credence: /);
    expect(main.stderr()).not.toContain('an-api-key');
  });
});

type Question = { id: number; method: string };

/** Settings with an RPC that knows its chain and its blocks, and answers everything else with an error. */
async function chainSettings(answers: Record<string, unknown>): Promise<Record<string, string>> {
  const known: Record<string, unknown> = {
    eth_getBlockByNumber: { number: '0x1', timestamp: '0x1', transactions: [] },
    ...answers,
  };
  const answer = ({ id, method }: Question) =>
    method in known
      ? { jsonrpc: '2.0', id, result: known[method] }
      : { jsonrpc: '2.0', id, error: { code: -32_000, message: 'no' } };
  const server = createHttpServer((request, response) => {
    void text(request).then((body) => {
      const asked = JSON.parse(body) as Question | Question[];
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(Array.isArray(asked) ? asked.map(answer) : answer(asked)));
    });
  }).listen(0, '127.0.0.1');
  server.unref();
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  return {
    CREDENCE_SANDBOX_RPC_URL: `http://127.0.0.1:${port}/an-api-key`,
    CREDENCE_SANDBOX_RELAYER_KEY: `0x${'ab'.repeat(32)}`,
  };
}
