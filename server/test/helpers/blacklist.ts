import { type Address, parseAbi } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { connect } from '../../contracts/test/local-chain.ts';
import { baseSepoliaUsdc, fundAccount } from '../../src/embedded/index.ts';

/** From the next block on the token refuses whatever this account pays or is paid. */
export async function blacklist(rpcUrl: string, address: Address): Promise<void> {
  // A sender of its own: others may use a shared one's nonces at the same time.
  const account = privateKeyToAccount(generatePrivateKey());
  await fundAccount(rpcUrl, { address: account.address, wei: 10n ** 16n });
  const client = connect(rpcUrl);
  const abi = parseAbi(['function blacklist(address account)']);
  const call = { address: baseSepoliaUsdc, abi, functionName: 'blacklist', args: [address] } as const;
  const hash = await client.writeContract({ ...call, account });
  const { status } = await client.waitForTransactionReceipt({ hash });
  if (status !== 'success') throw new Error('the token blacklisted nobody');
}
