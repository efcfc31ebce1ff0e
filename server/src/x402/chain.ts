import {
  type Address,
  createPublicClient,
  encodeFunctionData,
  type Hex,
  http,
  parseAbi,
  parseSignature,
  type TransactionReceipt,
  TransactionReceiptNotFoundError,
} from 'viem';
import { judgeBatchReceipt } from './batch-call.ts';
import type { Authorization, ExactPayment } from './exact.ts';
import type { Network } from './networks.ts';
import { createPayerStateReader, type PayerState } from './payer-state.ts';

/** The token's part that a settlement needs (EIP-20, EIP-3009). */
const tokenAbi = parseAbi([
  'function balanceOf(address account) view returns (uint256)',
  'function authorizationState(address authorizer, bytes32 nonce) view returns (bool)',
  'function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s)',
  'event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)',
]);

/** What became of a transaction, as far as the chain says. */
export type TransactionOutcome = 'reverted' | 'succeeded' | 'unknown';

/** One EVM chain behind its RPC. Every call may throw where the RPC is down. */
export interface Chain {
  network: Network;
  /** What the RPC says that it is. */
  chainId(): Promise<number>;
  balanceOf(account: Address): Promise<bigint>;
  nativeBalanceOf(account: Address): Promise<bigint>;
  isNonceUsed(payer: Address, nonce: Hex): Promise<boolean>;
  /** Both at once, for the hot path. Throws `ChainUnavailableError` where the chain can't be asked. */
  payerState(payer: Address, nonce: Hex): Promise<PayerState>;
  transactionCount(account: Address): Promise<number>;
  fees(): Promise<{ maxFeePerGas: bigint; maxPriorityFeePerGas: bigint }>;
  /** Whether the transfer would go through if it were mined now. */
  canTransfer(payment: ExactPayment, relayer: Address): Promise<boolean>;
  /** Sends a signed transaction; sending one that the chain already has is no error. */
  broadcast(raw: Hex): Promise<void>;
  outcomeOf(hash: Hex, payment: Authorization): Promise<TransactionOutcome>;
  /** The transaction that used the nonce with exactly this transfer, if there is one. */
  findSettlement(payment: Authorization): Promise<Hex | undefined>;
  /** A time that no block which can still appear is before: an authorisation expired by then is dead. */
  settledTime(): Promise<bigint>;
}

const rpcTimeoutMs = 5_000;
/** An authorisation lives two minutes, so its use is near the head; RPC providers cap the range of a log query. */
const logBlocks = 5_000n;

export function createChain(options: {
  network: Network;
  rpcUrl: string;
  finality: 'finalized' | 'instant';
}): Chain {
  const { network } = options;
  const token = { address: network.asset.address, abi: tokenAbi } as const;
  const client = createPublicClient({
    transport: http(options.rpcUrl, { batch: true, timeout: rpcTimeoutMs, retryCount: 1 }),
  });

  return {
    network,
    chainId: () => client.getChainId(),
    balanceOf: (account) => client.readContract({ ...token, functionName: 'balanceOf', args: [account] }),
    nativeBalanceOf: (account) => client.getBalance({ address: account }),
    isNonceUsed: (payer, nonce) =>
      client.readContract({ ...token, functionName: 'authorizationState', args: [payer, nonce] }),
    payerState: createPayerStateReader({ rpcUrl: options.rpcUrl, token: token.address }),
    transactionCount: (account) => client.getTransactionCount({ address: account, blockTag: 'latest' }),

    async fees() {
      const [block, tip] = await Promise.all([client.getBlock(), client.estimateMaxPriorityFeePerGas()]);
      // Twice the base fee outlasts six full blocks (EIP-1559 raises it by an eighth each).
      return { maxFeePerGas: (block.baseFeePerGas ?? 0n) * 2n + tip, maxPriorityFeePerGas: tip };
    },

    async canTransfer(payment, relayer) {
      try {
        await client.call({ account: relayer, to: token.address, data: transferCall(payment) });
        return true;
      } catch (error) {
        if (isRevert(error)) return false;
        throw error;
      }
    },

    async broadcast(raw) {
      try {
        await client.sendRawTransaction({ serializedTransaction: raw });
      } catch (error) {
        if (!isAlreadyKnown(error)) throw error;
      }
    },

    async outcomeOf(hash, payment) {
      const receipt = await findReceipt(hash);
      if (!receipt) return 'unknown';
      return receipt.status === 'success' && hasTransfer(receipt, network, payment)
        ? 'succeeded'
        : 'reverted';
    },

    async findSettlement(payment) {
      const head = await client.getBlockNumber();
      const logs = await client.getContractEvents({
        ...token,
        eventName: 'AuthorizationUsed',
        args: { authorizer: payment.from, nonce: payment.nonce },
        fromBlock: head > logBlocks ? head - logBlocks : 0n,
      });
      for (const log of logs) {
        const receipt = await findReceipt(log.transactionHash);
        if (receipt && hasTransfer(receipt, network, payment)) return log.transactionHash;
      }
      return undefined;
    },

    async settledTime() {
      // A local chain makes a block only when it has a transaction; its pending block has the present time.
      const block = await client.getBlock({
        blockTag: options.finality === 'instant' ? 'pending' : 'finalized',
      });
      return block.timestamp;
    },
  };

  async function findReceipt(hash: Hex): Promise<TransactionReceipt | undefined> {
    try {
      return await client.getTransactionReceipt({ hash });
    } catch (error) {
      if (error instanceof TransactionReceiptNotFoundError) return undefined;
      throw error;
    }
  }
}

/** The call data that moves the money: the overload with v, r and s, which every EIP-3009 token has. */
export function transferCall(payment: ExactPayment): Hex {
  const { authorization } = payment;
  const { r, s, yParity } = parseSignature(payment.signature);
  return encodeFunctionData({
    abi: tokenAbi,
    functionName: 'transferWithAuthorization',
    args: [
      authorization.from,
      authorization.to,
      authorization.value,
      authorization.validAfter,
      authorization.validBefore,
      authorization.nonce,
      27 + yParity,
      r,
      s,
    ],
  });
}

/** Whether the receipt used the payment's nonce for exactly the payment's transfer, and for no other's beside it. */
function hasTransfer(receipt: TransactionReceipt, network: Network, payment: Authorization): boolean {
  return judgeBatchReceipt(receipt.logs, [payment], network.asset.address)[0] === 'settled';
}

function isRevert(error: unknown): boolean {
  return (
    error instanceof Error &&
    /revert/i.test(`${error.message} ${'details' in error ? String(error.details) : ''}`)
  );
}

/** The node has it, or has mined it: either way it needn't be sent again. Texts of geth, reth and anvil. */
function isAlreadyKnown(error: unknown): boolean {
  return (
    error instanceof Error &&
    /already known|already imported|nonce too low|known transaction/i.test(error.message)
  );
}
