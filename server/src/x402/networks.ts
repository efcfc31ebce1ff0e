import type { Address } from 'viem';
import type { EnvironmentKind } from '../accounts/index.ts';

/** CAIP-2 name of an EVM chain. */
export type NetworkId = `eip155:${number}`;

export interface Asset {
  address: Address;
  /** The token's EIP-712 domain: what its contract answers to `name()` and `version()`. */
  name: string;
  version: string;
  /** One word per currency in limits and on the wire. */
  currency: 'USDC';
}

export interface Network {
  id: NetworkId;
  chainId: number;
  asset: Asset;
}

/** Where each half of an organisation is paid: Base Sepolia and Base, with Circle's USDC of each. */
export const networks: Readonly<Record<EnvironmentKind, Network>> = {
  sandbox: {
    id: 'eip155:84532',
    chainId: 84_532,
    asset: {
      address: '0x036CbD53842c5426634e7929541eC2318f3dCF7e',
      name: 'USDC',
      version: '2',
      currency: 'USDC',
    },
  },
  production: {
    id: 'eip155:8453',
    chainId: 8_453,
    asset: {
      address: '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913',
      name: 'USD Coin',
      version: '2',
      currency: 'USDC',
    },
  },
};

/** The network of this CAIP-2 name, where it is one that we settle on. */
export function findNetwork(id: string): Network | undefined {
  return Object.values(networks).find((network) => network.id === id);
}
