import type { Hex } from 'viem';
import type { ReceiptLog } from './batch-call.ts';
import { bytesOf, ChainUnavailableError, hashOf, quantityOf } from './json-rpc.ts';

/** A block, by which a transaction's place is known. */
export interface Block {
  number: bigint;
  hash: Hex;
}

/** What a block says of itself, as far as it is needed. */
export interface Header extends Block {
  timestamp: bigint;
  baseFeePerGas: bigint;
}

/** What a mined transaction did, as far as settling needs it. */
export interface Receipt {
  hash: Hex;
  block: Block;
  reverted: boolean;
  logs: readonly ReceiptLog[];
}

/** Reads an answer to `eth_getBlockByNumber`. Throws `ChainUnavailableError` where it isn't a block. */
export function readHeader(answer: unknown): Header {
  const header = (answer ?? {}) as Record<string, unknown>;
  return {
    // A block that is still being made has no hash: nothing is said of its place.
    number: quantityOf(header['number']),
    hash: header['hash'] === null ? '0x' : hashOf(header['hash']),
    timestamp: quantityOf(header['timestamp']),
    baseFeePerGas: header['baseFeePerGas'] === undefined ? 0n : quantityOf(header['baseFeePerGas']),
  };
}

/**
 * Reads an answer to `eth_getTransactionReceipt`; nothing where the transaction isn't mined. Throws `ChainUnavailableError` where
 * the answer contradicts itself, or is another transaction's: what money did isn't read from that.
 */
export function readReceipt(answer: unknown, hash: Hex): Receipt | undefined {
  if (answer === null) return undefined;
  const receipt = answer as Record<string, unknown>;
  if (receipt['blockHash'] === null || receipt['blockNumber'] === null) return undefined;
  if (hashOf(receipt['transactionHash']) !== hash.toLowerCase())
    throw new ChainUnavailableError(`asked for the receipt of ${hash}, the RPC gave another's`);
  const block = { number: quantityOf(receipt['blockNumber']), hash: hashOf(receipt['blockHash']) };
  const status = quantityOf(receipt['status']);
  const { logs } = receipt;
  if (status > 1n || !Array.isArray(logs))
    throw new ChainUnavailableError(`the RPC gave something that is no receipt of ${hash}`);
  return {
    hash,
    block,
    reverted: status === 0n,
    logs: logs.map((log) => readLog(log as Record<string, unknown>, hash, block)),
  };
}

function readLog(log: Record<string, unknown>, hash: Hex, block: Block): ReceiptLog {
  const { address, data, topics, logIndex, transactionHash, blockHash, removed } = log;
  if (transactionHash !== undefined && hashOf(transactionHash) !== hash.toLowerCase())
    throw new ChainUnavailableError(`the receipt of ${hash} has another transaction's log`);
  if ((blockHash !== undefined && hashOf(blockHash) !== block.hash) || removed === true)
    throw new ChainUnavailableError(`the receipt of ${hash} has a log of another block`);
  if (!Array.isArray(topics)) throw new ChainUnavailableError(`the receipt of ${hash} has no log's topics`);
  return {
    address: bytesOf(address),
    data: bytesOf(data).toLowerCase(),
    topics: topics.map(hashOf),
    logIndex: Number(quantityOf(logIndex)),
  };
}
