import { type Address, isAddressEqual, zeroAddress } from 'viem';
import type { Chain } from './chain.ts';
import { ChainUnavailableError } from './json-rpc.ts';

/**
 * Whether payments to this address can be settled: not to nobody, nor to the token or the batch contract, where money is lost, nor to one that
 * the token refuses, as those on Circle's list. A chain that is away refuses nobody.
 */
export async function canBePaid(
  chain: Pick<Chain, 'batchContract' | 'network' | 'takesPayee'>,
  address: Address,
): Promise<boolean> {
  const lost = [zeroAddress, chain.network.asset.address, chain.batchContract];
  if (lost.some((one) => isAddressEqual(one, address))) return false;
  try {
    return await chain.takesPayee(address);
  } catch (error) {
    if (!(error instanceof ChainUnavailableError)) throw error;
    return true;
  }
}
