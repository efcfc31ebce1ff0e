import type { Address, Hex } from 'viem';
import { multicall3 } from './batch-call.ts';
import { examine, type Verdict } from './examine.ts';
import type { Authorization, ExactPayment } from '../exact/exact.ts';
import { createFeeReader, type Fees } from './fees.ts';
import { type AskRpc, createRpc, quantityOf, resultOf } from './json-rpc.ts';
import type { Network } from '../networks.ts';
import { createLogSearch } from './log-search.ts';
import { findSettlement, findUses, type NonceUse } from './nonce-use.ts';
import { createNewestSeen, type NewestSeen } from './newest-seen.ts';
import { countAt, type Look } from './pinned-look.ts';
import { type AskPayerState, createPayerStateReader } from './payer-state.ts';
import { askBlockHashes, createReceiptWatch, type ReceiptWatch } from './receipt-watch.ts';
import { type Block, type Header, readHeader, type Receipt } from './receipts.ts';
import {
  balanceCall,
  batchView,
  booleanOf,
  type Contracts,
  emptyTransferCall,
  readBatch,
  stateCall,
  wordOf,
} from './token-calls.ts';

/** One EVM chain behind its RPC. Every call throws `ChainUnavailableError` where the chain can't be asked. */
export interface Chain {
  network: Network;
  /** What makes many calls in one transaction. */
  batchContract: Address;
  /** Whether that is our own, which lets no item use more gas than an item may. */
  boundsGas: boolean;
  /** What the RPC says that it is. */
  chainId(): Promise<number>;
  balanceOf(account: Address): Promise<bigint>;
  nativeBalanceOf(account: Address): Promise<bigint>;
  isNonceUsed(payer: Address, nonce: Hex): Promise<boolean>;
  /** Both at once, and whether the payer has code, for the hot path: kept for as long as a block lasts. */
  payerState: AskPayerState;
  transactionCount(account: Address): Promise<number>;
  fees(): Promise<Fees>;
  /** For each of these transfers, what would become of it if they were mined now, in this order; and what gas costs. */
  examine(payments: readonly ExactPayment[]): Promise<{ verdicts: Verdict[]; fees: Fees }>;
  /** Whether the token would let anybody pay this account now. */
  takesPayee(account: Address): Promise<boolean>;
  /** Sends a signed transaction; sending one that the chain already has is no error. */
  broadcast(raw: Hex): Promise<void>;
  /** The receipt of whichever of these was mined; nothing where none is, once `patienceMs` is over. */
  findReceipt(hashes: readonly Hex[], patienceMs?: number): Promise<Receipt | undefined>;
  /** What became of the nonce of each of these, in their order: `unused` is said of the newest block that is known, never of an older one. */
  findUses(
    authorizations: readonly Authorization[],
    look?: Omit<Look, 'authorizations'>,
  ): Promise<NonceUse[]>;
  /** How many transactions of an account are so deep that their receipts are to be had of any node, and by which head. */
  deepTransactionCount(account: Address): Promise<{ count: bigint; block: bigint }>;
  /** The transaction that used the nonce with exactly this transfer, if there is one. Throws while it is still searched for. */
  findSettlement(payment: Authorization): Promise<Hex | undefined>;
  /** Whether its last blocks can be gone without others in their place, as a local chain's after a crash. */
  forgetsBlocks: boolean;
  head(): Promise<Block>;
  /** The chain's own hash of each of these blocks, as far as it has them; its head; and the last block that is watched no more. */
  findPlaces(
    numbers: readonly bigint[],
  ): Promise<{ hashes: ReadonlyMap<bigint, Hex>; head: bigint; settled: bigint }>;
  /** A time that no block which can still appear is before: an authorisation expired by then is dead. */
  settledTime(): Promise<bigint>;
}

const rpcTimeoutMs = 5_000;
/** Some thirty receipts of full batches. */
const responseBytesMax = 32 * 1024 * 1024;
/** Providers commonly take a hundred calls in one request. */
const callsMax = 100;
/** A local chain that is killed forgets at most what it mined since its last dump: some seconds. */
const localDepth = 256;

/**
 * So far below the head it must be that an account's nonce was used, before that says something without a receipt: 20 seconds on Base, more
 * than a node is behind the others, and more than a reorganisation replaces there. A local chain is one node.
 */
const deepBlocks = 10n;

/** How far below the head a block is watched: so many blocks, or until the RPC calls it finalized. */
type ReorgDepth = number | 'finalized';

/**
 * Opens a chain. `finality`: whether its blocks stay at once, as a local chain's do, or when the RPC calls them finalized. `reorgDepth`: how
 * long it is watched for what was mined and goes again. `batchContract`: what makes many calls in one; Multicall3 unless said otherwise.
 */
export function createChain(options: {
  network: Network;
  rpcUrl: string;
  finality: 'finalized' | 'instant';
  reorgDepth?: ReorgDepth;
  batchContract?: Address;
}): Chain {
  const { network, finality, rpcUrl, batchContract = multicall3 } = options;
  const reorgDepth = options.reorgDepth ?? (finality === 'instant' ? localDepth : 'finalized');
  const contracts = { token: network.asset.address, batchContract };
  const ask = createRpc({ rpcUrl, timeoutMs: rpcTimeoutMs, responseBytesMax });
  const seen = createNewestSeen();
  const watch = createReceiptWatch(ask, seen);
  return {
    network,
    batchContract,
    boundsGas: finality === 'instant' || batchContract.toLowerCase() !== multicall3.toLowerCase(),
    payerState: createPayerStateReader({ ...contracts, rpcUrl, watch, seen }),
    ...openAccounts(ask, contracts.token),
    deepTransactionCount: (account) =>
      countAt({ ask, seen }, account, finality === 'instant' ? 0n : deepBlocks),
    ...openTransactions(ask, watch, seen, contracts),
    ...openBlocks(ask, finality, reorgDepth),
  };
}

/** What a chain says of one account. */
function openAccounts(
  ask: AskRpc,
  token: Address,
): Pick<Chain, 'balanceOf' | 'isNonceUsed' | 'nativeBalanceOf' | 'transactionCount'> {
  return {
    async balanceOf(account) {
      return wordOf(await askOne(ask, 'eth_call', { to: token, data: balanceCall(account) }, 'latest'));
    },
    nativeBalanceOf: async (account) => quantityOf(await askOne(ask, 'eth_getBalance', account, 'latest')),
    async isNonceUsed(payer, nonce) {
      const call = { to: token, data: stateCall({ from: payer, nonce }) };
      return booleanOf(await askOne(ask, 'eth_call', call, 'latest'));
    },
    transactionCount: async (account) =>
      Number(quantityOf(await askOne(ask, 'eth_getTransactionCount', account, 'latest'))),
  };
}

/** How transfers are looked at, sent, and found again. */
function openTransactions(
  ask: AskRpc,
  watch: ReceiptWatch,
  seen: NewestSeen,
  contracts: Contracts,
): Pick<
  Chain,
  'broadcast' | 'examine' | 'fees' | 'takesPayee' | 'findReceipt' | 'findSettlement' | 'findUses'
> {
  const askWithFees = createFeeReader(ask, watch);
  const asked = { ask, seen, watch, contracts, search: createLogSearch(ask, contracts.token) };
  return {
    fees: async () => (await askWithFees([])).fees,
    examine: (payments) => examine(askWithFees, contracts, payments),
    async takesPayee(account) {
      const [answer] = await ask([batchView(contracts, [emptyTransferCall(account)])]);
      return readBatch(answer, 1)[0]?.success === true;
    },
    async broadcast(raw) {
      const [answer] = await ask([{ method: 'eth_sendRawTransaction', params: [raw] }]);
      if (answer && 'error' in answer && isAlreadyKnown(answer.error)) return;
      resultOf(answer);
    },
    findReceipt: (hashes, patienceMs = 0) => watch.await(hashes, patienceMs),
    findUses: (authorizations, look) => findUses(asked, { authorizations, ...look }),
    findSettlement: (authorization) => findSettlement(asked, authorization),
  };
}

/** The chain itself: its blocks, and how long they stay. */
function openBlocks(
  ask: AskRpc,
  finality: 'finalized' | 'instant',
  reorgDepth: ReorgDepth,
): Pick<Chain, 'chainId' | 'findPlaces' | 'forgetsBlocks' | 'head' | 'settledTime'> {
  async function askHeader(tag: 'finalized' | 'latest' | 'pending'): Promise<Header> {
    return readHeader(await askOne(ask, 'eth_getBlockByNumber', tag, false));
  }

  return {
    chainId: async () => Number(quantityOf(await askOne(ask, 'eth_chainId'))),
    forgetsBlocks: finality === 'instant',
    head: () => askHeader('latest'),

    async findPlaces(numbers) {
      const head = (await askHeader('latest')).number;
      const settled =
        reorgDepth === 'finalized' ? (await askHeader('finalized')).number : head - BigInt(reorgDepth);
      const hashes = new Map<bigint, Hex>();
      for (let start = 0; start < numbers.length; start += callsMax) {
        const part = await askBlockHashes(ask, numbers.slice(start, start + callsMax));
        for (const [number, hash] of part) hashes.set(number, hash);
      }
      return { hashes, head, settled };
    },

    async settledTime() {
      // A local chain makes a block only when it has a transaction; its pending block has the present time.
      return (await askHeader(finality === 'instant' ? 'pending' : 'finalized')).timestamp;
    },
  };
}

async function askOne(ask: AskRpc, method: string, ...params: readonly unknown[]): Promise<unknown> {
  const [answer] = await ask([{ method, params }]);
  return resultOf(answer);
}

/** The node has it, or has mined it: either way it needn't be sent again. Texts of geth, reth and anvil. */
function isAlreadyKnown(error: Error): boolean {
  return /already known|already imported|nonce too low|known transaction/i.test(error.message);
}
