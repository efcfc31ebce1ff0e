import { createPublicClient, createTestClient, http, isHex, type Address } from 'viem';
import batch from '../../contracts/Batch.json' with { type: 'json' };
import testUsdc from '../../contracts/TestUsdc.json' with { type: 'json' };

/** Where Base Sepolia (chain id 84532) has USDC, and where stock x402 clients look for it. */
export const baseSepoliaUsdc: Address = '0x036CbD53842c5426634e7929541eC2318f3dCF7e';

/** Where nearly every public chain has Multicall3, Base and Base Sepolia among them. */
export const multicall3Address: Address = '0xcA11bde05977b3631167028862bE2a173976CA11';

/** Makes `address` the test token on the anvil behind `rpcUrl`. Balances of an earlier release stay. */
export function plantTestToken(rpcUrl: string, address: Address): Promise<void> {
  return plant(rpcUrl, address, testUsdc);
}

/** Puts the batch contract where Multicall3 is on public chains, or elsewhere, on the anvil behind `rpcUrl`. */
export function plantBatchContract(rpcUrl: string, address = multicall3Address): Promise<void> {
  return plant(rpcUrl, address, batch);
}

async function plant(
  rpcUrl: string,
  address: Address,
  artifact: { contractName: string; deployedBytecode: string },
): Promise<void> {
  const transport = http(rpcUrl);
  const bytecode = artifact.deployedBytecode;
  if (!isHex(bytecode)) throw new Error(`server/contracts/${artifact.contractName}.json holds no code`);
  if ((await createPublicClient({ transport }).getCode({ address })) === bytecode) return;
  await createTestClient({ mode: 'anvil', transport }).setCode({ address, bytecode });
}
