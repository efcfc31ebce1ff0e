import { copyFile, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { callRpc } from './chain-rpc.ts';
import { startChain, type EmbeddedChain } from './chain.ts';
import { openDataDirectory, type DataDirectory } from './data-directory.ts';
import { makeTemporaryFolder } from './temporary-folder.fixture.ts';

const tokenAddress = '0x036cbd53842c5426634e7929541ec2318f3dcf7e';
const richAddress = '0x00000000000000000000000000000000000000aa';
const slotKey = `0x${'0'.repeat(63)}1`;

const running: EmbeddedChain[] = [];
afterAll(() => Promise.all(running.map((chain) => chain.stop())));

async function start(directory: DataDirectory, lines: string[] = []): Promise<EmbeddedChain> {
  const chain = await startChain({ directory, chainId: 84532, log: (line) => lines.push(line) });
  running.push(chain);
  return chain;
}

async function plant(chain: EmbeddedChain): Promise<void> {
  await callRpc(chain.url, 'anvil_setCode', [tokenAddress, '0x60016002']);
  await callRpc(chain.url, 'anvil_setStorageAt', [tokenAddress, '0x1', slotKey]);
  await callRpc(chain.url, 'anvil_setBalance', [richAddress, '0x1234']);
}

async function pay(chain: EmbeddedChain): Promise<unknown> {
  const [from, to] = await accounts(chain);
  const hash = await callRpc(chain.url, 'eth_sendTransaction', [{ from, to, value: '0x10' }]);
  await expect.poll(() => callRpc(chain.url, 'eth_getTransactionReceipt', [hash])).toBeTruthy();
  return hash;
}

async function accounts(chain: EmbeddedChain): Promise<unknown[]> {
  const found = await callRpc(chain.url, 'eth_accounts');
  return Array.isArray(found) ? found : [];
}

/** Everything that the rest of the program reads from a chain. */
async function observe(chain: EmbeddedChain, hash: unknown): Promise<unknown> {
  const [from, to] = await accounts(chain);
  const calls: [string, unknown[]][] = [
    ['eth_chainId', []],
    ['eth_blockNumber', []],
    ['eth_getBlockByNumber', ['latest', true]],
    ['eth_getBlockByNumber', ['0x1', false]],
    ['eth_getTransactionCount', [from, 'latest']],
    ['eth_getBalance', [to, 'latest']],
    ['eth_getBalance', [richAddress, 'latest']],
    ['eth_getCode', [tokenAddress, 'latest']],
    ['eth_getStorageAt', [tokenAddress, '0x1', 'latest']],
    ['eth_getTransactionByHash', [hash]],
    ['eth_getTransactionReceipt', [hash]],
  ];
  return Promise.all(
    calls.map(async ([method, params]) => [method, await callRpc(chain.url, method, params)]),
  );
}

describe('embedded chain', () => {
  it('keeps balances, code, storage, nonces, blocks and receipts over a restart, and goes on', async () => {
    const directory = await openDataDirectory(await makeTemporaryFolder());
    const first = await start(directory);
    expect(first.fresh).toBe(true);
    await plant(first);
    const hash = await pay(first);
    await pay(first);
    const before = await observe(first, hash);
    await first.stop();
    const second = await start(directory);
    expect(second.fresh).toBe(false);
    expect(await observe(second, hash)).toEqual(before);
    await pay(second);
    expect(await callRpc(second.url, 'eth_blockNumber')).toBe('0x3');
    await second.stop();
  });

  it('saves by itself what is planted without a block, and a block, within seconds', async () => {
    const directory = await openDataDirectory(await makeTemporaryFolder());
    const chain = await start(directory);
    const path = join(directory.path, 'chain.state');
    const read = () => readFile(path, 'hex').catch(() => '');
    await expect.poll(read, { timeout: 5_000 }).not.toBe('');
    const fresh = await read();
    await plant(chain);
    await expect.poll(read, { timeout: 5_000 }).not.toBe(fresh);
    const planted = await read();
    await pay(chain);
    await expect.poll(read, { timeout: 5_000 }).not.toBe(planted);
    await chain.stop();
  });

  it('goes on from the save before when the last one is torn, and afresh when both are', async () => {
    const directory = await openDataDirectory(await makeTemporaryFolder());
    const first = await start(directory);
    await plant(first);
    await first.save();
    await pay(first);
    await first.stop();
    const path = join(directory.path, 'chain.state');
    const whole = await readFile(path);
    await writeFile(path, whole.subarray(0, whole.length / 2));
    const lines: string[] = [];
    const second = await start(directory, lines);
    expect(second.fresh).toBe(false);
    expect(lines.join()).toContain('chain.state is unreadable');
    expect(await callRpc(second.url, 'eth_getBalance', [richAddress, 'latest'])).toBe('0x1234');
    expect(await callRpc(second.url, 'eth_blockNumber')).toBe('0x0');
    await second.stop();

    await writeFile(path, 'nonsense');
    await copyFile(path, `${path}.previous`);
    const third = await start(directory);
    expect(third.fresh).toBe(true);
    await third.stop();
    expect(await readdir(directory.path)).toContain('chain.state.unreadable');
  });

  it('loses nothing when the write of a save is cut off between its steps', async () => {
    const directory = await openDataDirectory(await makeTemporaryFolder());
    const first = await start(directory);
    await plant(first);
    await first.stop();
    const path = join(directory.path, 'chain.state');
    await copyFile(path, `${path}.previous`);
    await rm(path);
    const second = await start(directory);
    expect(await callRpc(second.url, 'eth_getCode', [tokenAddress, 'latest'])).toBe('0x60016002');
    await second.stop();
  });

  it('says in one line that its port is taken', async () => {
    const holder = await start(await openDataDirectory(await makeTemporaryFolder()));
    const port = Number(new URL(holder.url).port);
    const directory = await openDataDirectory(await makeTemporaryFolder());
    await expect(startChain({ directory, chainId: 84532, port, log: () => undefined })).rejects.toThrow(
      `The local chain's port ${port} is in use`,
    );
    await holder.stop();
  });

  it('answers no web page of another origin', async () => {
    const chain = await start(await openDataDirectory(await makeTemporaryFolder()));
    const response = await fetch(chain.url, {
      method: 'OPTIONS',
      headers: { origin: 'https://example.com' },
    });
    expect(response.headers.get('access-control-allow-origin')).toBeNull();
    await chain.stop();
  });
});
