import {
  type Address,
  createPublicClient,
  decodeFunctionResult,
  type Hex,
  http,
  multicall3Abi,
  parseAbi,
  type TransactionReceipt,
  TransactionReceiptNotFoundError,
} from 'viem';
import {
  addressWord,
  batchContract,
  encodeBatch,
  judgeBatchReceipt,
  type ReceiptLog,
  word,
} from './batch-call.ts';
import type { Authorization, ExactPayment } from './exact.ts';
import type { Network } from './networks.ts';
import { createPayerStateReader, type PayerState } from './payer-state.ts';

/** The token's part that a settlement needs (EIP-20, EIP-3009). */
const tokenAbi = parseAbi([
  'function balanceOf(address account) view returns (uint256)',
  'function authorizationState(address authorizer, bytes32 nonce) view returns (bool)',
  'event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)',
]);

export interface Fees {
  maxFeePerGas: bigint;
  maxPriorityFeePerGas: bigint;
}

/** What a mined transaction did, as far as settling needs it. */
export interface Receipt {
  hash: Hex;
  reverted: boolean;
  logs: readonly ReceiptLog[];
}

/** One EVM chain behind its RPC. Every call may throw where the RPC is down. */
export interface Chain {
  network: Network;
  balanceOf(account: Address): Promise<bigint>;
  nativeBalanceOf(account: Address): Promise<bigint>;
  isNonceUsed(payer: Address, nonce: Hex): Promise<boolean>;
  /** Both at once, for the hot path. Throws `ChainUnavailableError` where the chain can't be asked. */
  payerState(payer: Address, nonce: Hex): Promise<PayerState>;
  transactionCount(account: Address): Promise<number>;
  fees(): Promise<Fees>;
  /** For each of these transfers, whether it would go through if they were mined now, in this order. */
  findPassing(payments: readonly ExactPayment[]): Promise<boolean[]>;
  /** Which of these accounts have code: a contract's, or one that its key has put there (EIP-7702). */
  findWithCode(accounts: readonly Address[]): Promise<Set<Address>>;
  /** Sends a signed transaction; sending one that the chain already has is no error. */
  broadcast(raw: Hex): Promise<void>;
  /** The receipt of whichever of these was mined; nothing where none is yet. */
  findReceipt(hashes: readonly Hex[]): Promise<Receipt | undefined>;
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

    async findPassing(payments) {
      const calls = payments.map((payment) => ({ target: token.address, callData: transferCall(payment) }));
      const { data = '0x' } = await client.call({ to: batchContract, data: encodeBatch(calls) });
      const results = decodeFunctionResult({ abi: multicall3Abi, functionName: 'aggregate3', data });
      return results.map(({ success }) => success);
    },

    async findWithCode(accounts) {
      const codes = await Promise.all(accounts.map((address) => client.getCode({ address })));
      return new Set(accounts.filter((_account, index) => codes[index] !== undefined));
    },

    async broadcast(raw) {
      try {
        await client.sendRawTransaction({ serializedTransaction: raw });
      } catch (error) {
        if (!isAlreadyKnown(error)) throw error;
      }
    },

    async findReceipt(hashes) {
      for (const hash of hashes) {
        const receipt = await findReceipt(hash);
        if (receipt) return { hash, reverted: receipt.status === 'reverted', logs: receipt.logs };
      }
      return undefined;
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
        const [verdict] = receipt ? judgeBatchReceipt(receipt.logs, [payment], token.address) : [];
        if (verdict === 'settled') return log.transactionHash;
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

/**
 * The call data that moves the money: `transferWithAuthorization` with v, r and s, the overload that every EIP-3009 token
 * has. Its arguments are nine words, written out by the ABI's fixed layout.
 */
export function transferCall(payment: ExactPayment): Hex {
  const { from, to, value, validAfter, validBefore, nonce } = payment.authorization;
  const [r, s, v] = [
    payment.signature.slice(2, 66),
    payment.signature.slice(66, 130),
    payment.signature.slice(130),
  ];
  const words = [addressWord(from), addressWord(to), word(value), word(validAfter), word(validBefore)];
  return `${transferSelector}${words.join('')}${nonce.slice(2)}${v.padStart(64, '0')}${r}${s}`;
}

/** `transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)` (EIP-3009). */
const transferSelector = '0xe3ee160e';

/** The node has it, or has mined it: either way it needn't be sent again. Texts of geth, reth and anvil. */
function isAlreadyKnown(error: unknown): boolean {
  return (
    error instanceof Error &&
    /already known|already imported|nonce too low|known transaction/i.test(error.message)
  );
}
