import { createPublicClient, createTestClient, createWalletClient, http, parseAbi, type Address } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { baseSepoliaUsdc } from './plant-contracts.ts';

/** What an account shall hold at least: wei of the chain's own coin, atomic units (10^-6) of the token. */
export interface AccountFunds {
  address: Address;
  wei?: bigint;
  tokenAtomic?: bigint;
  /** The planted token; Base Sepolia's USDC unless said otherwise. */
  token?: Address;
}

const gasForAMintWei = 10n ** 16n;
// Longer than any block time that a local chain is run with.
const mintTimeoutMs = 60_000;
const tokenAbi = parseAbi([
  'function balanceOf(address account) view returns (uint256)',
  'function faucetMint(address to, uint256 value)',
]);

/**
 * Tops an account up to the stated funds; what already holds as much is left alone. The token comes from its faucet in
 * a transaction, so that the chain's history shows where it came from. Returns when that is mined; throws if it failed.
 */
export async function fundAccount(rpcUrl: string, funds: AccountFunds): Promise<void> {
  const { chain, anvil } = connect(rpcUrl);
  const { address, wei = 0n, tokenAtomic = 0n, token = baseSepoliaUsdc } = funds;
  if ((await chain.getBalance({ address })) < wei) await anvil.setBalance({ address, value: wei });
  if (tokenAtomic === 0n) return;

  const held = await chain.readContract({
    address: token,
    abi: tokenAbi,
    functionName: 'balanceOf',
    args: [address],
  });
  if (held < tokenAtomic) await mint(rpcUrl, token, address, tokenAtomic - held);
}

async function mint(rpcUrl: string, token: Address, to: Address, value: bigint): Promise<void> {
  const { chain, anvil } = connect(rpcUrl);
  // A sender of its own for each mint: top-ups at once would race for the nonce of a shared one.
  const sender = privateKeyToAccount(generatePrivateKey());
  await anvil.setBalance({ address: sender.address, value: gasForAMintWei });
  const hash = await createWalletClient({ account: sender, transport: http(rpcUrl) }).writeContract({
    chain: null,
    address: token,
    abi: tokenAbi,
    functionName: 'faucetMint',
    args: [to, value],
  });
  const { status } = await chain.waitForTransactionReceipt({ hash, timeout: mintTimeoutMs });
  if (status !== 'success') throw new Error(`the faucet of ${token} failed in ${hash}`);
}

function connect(rpcUrl: string) {
  const transport = http(rpcUrl);
  return {
    chain: createPublicClient({ transport, pollingInterval: 50, cacheTime: 0 }),
    anvil: createTestClient({ mode: 'anvil', transport }),
  };
}
