import { expect, it } from 'vitest';
import { networks } from '../networks.ts';
import { multicall3 } from './batch-call.ts';
import { createChain } from './chain.ts';

it.each([
  ['Multicall3', undefined, false],
  ['Multicall3, named', multicall3, false],
  ['Multicall3, named in other letters', multicall3.toLowerCase(), false],
  ['a contract of its own', `0x${'ab'.repeat(20)}`, true],
])('a batch by %s (%s) bounds what an item costs: %s', (_what, batchContract, boundsGas) => {
  const chain = createChain({
    network: networks.production,
    rpcUrl: 'http://127.0.0.1:1',
    finality: 'finalized',
    ...(batchContract === undefined ? {} : { batchContract: batchContract as typeof multicall3 }),
  });
  expect(chain.boundsGas).toBe(boundsGas);
});
