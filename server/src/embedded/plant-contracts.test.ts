import { afterAll, expect, it } from 'vitest';
import batch from '../../contracts/Batch.json' with { type: 'json' };
import { callRpc } from './chain-rpc.ts';
import { startChain } from './chain.ts';
import { openDataDirectory } from './data-directory.ts';
import { multicall3Address, plantBatchContract } from './plant-contracts.ts';
import { makeTemporaryFolder } from './temporary-folder.fixture.ts';

const stops: (() => Promise<void>)[] = [];
afterAll(() => Promise.all(stops.map((stop) => stop())));

const codeOn = (url: string) => callRpc(url, 'eth_getCode', [multicall3Address, 'latest']);

it('a chain that an earlier release planted has the batch contract of this one after its next start', async () => {
  const directory = await openDataDirectory(await makeTemporaryFolder());
  const open = async () => {
    const chain = await startChain({ directory, chainId: 84532, log: () => undefined });
    stops.push(() => chain.stop());
    return chain;
  };
  const earlier = await open();
  await callRpc(earlier.url, 'anvil_setCode', [multicall3Address, '0x60016002']);
  await earlier.stop();

  const chain = await open();
  expect(await codeOn(chain.url)).toBe('0x60016002');
  await plantBatchContract(chain.url);
  expect(await codeOn(chain.url)).toBe(batch.deployedBytecode);
  await chain.stop();

  expect(await codeOn((await open()).url)).toBe(batch.deployedBytecode);
}, 30_000);
