import { x402Facilitator } from '@x402/core/facilitator';
import { toFacilitatorEvmSigner } from '@x402/evm';
import { ExactEvmScheme } from '@x402/evm/exact/facilitator';
import { createPublicClient, createWalletClient, hashTypedData, type Hex, http } from 'viem';
import { nonceManager, privateKeyToAccount } from 'viem/accounts';
import { baseSepolia } from 'viem/chains';

/**
 * The official facilitator of `exact`, as its documentation builds it. viem's nonce manager keeps concurrent settlements apart:
 * without it most of them fail. `confirmationTimeoutMs` is 180 s unless given.
 */
export function createOfficialFacilitator(options: {
  rpcUrl: string;
  relayerKey: Hex;
  confirmationTimeoutMs?: number;
}): x402Facilitator {
  const { rpcUrl, relayerKey, confirmationTimeoutMs } = options;
  const account = privateKeyToAccount(relayerKey, { nonceManager });
  // The default of viem, 4 s, is for public chains.
  const chain = { chain: baseSepolia, transport: http(rpcUrl), pollingInterval: 20 };
  const wallet = createWalletClient({ account, ...chain });
  const reader = createPublicClient(chain);
  const signer = toFacilitatorEvmSigner(
    {
      address: account.address,
      readContract: (call) => reader.readContract(call),
      verifyTypedData: ({ address, signature, ...signed }) =>
        reader.verifyHash({ address, signature, hash: hashTypedData(signed) }),
      getCode: (where) => reader.getCode(where),
      writeContract: (call) => wallet.writeContract(call),
      sendTransaction: (sent) => wallet.sendTransaction(sent),
      waitForTransactionReceipt: (sent) => reader.waitForTransactionReceipt(sent),
    },
    confirmationTimeoutMs === undefined ? {} : { confirmationTimeoutMs },
  );
  return new x402Facilitator().register('eip155:84532', new ExactEvmScheme(signer));
}
