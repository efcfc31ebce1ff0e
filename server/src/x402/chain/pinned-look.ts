import { setTimeout as sleep } from 'node:timers/promises';
import type { Address, Hex } from 'viem';
import type { Authorization, ExactPayment } from '../exact/exact.ts';
import { decodeCodeCheck, encodeCodeCheck } from './code-check.ts';
import {
  type AskRpc,
  bytesOf,
  ChainUnavailableError,
  quantityOf,
  resultOf,
  type RpcCall,
} from './json-rpc.ts';
import type { NewestSeen } from './newest-seen.ts';
import { latestBlock } from './receipt-watch.ts';
import { type Block, type Header, readHeader } from './receipts.ts';
import {
  balanceCall,
  batchView,
  blacklistCall,
  blockView,
  booleanOf,
  type Contracts,
  readBatch,
  stateCall,
  transferCall,
  viewOf,
  wordOf,
} from './token-calls.ts';

/** How often a block is looked for that the node which answers hasn't got; the pauses between are longer each time. */
const looksMax = 5;
const pauseMs = 60;

/**
 * Asks several things of one block, which is named by its hash (EIP-1898), so that no answer is an older block's, whichever of a provider's nodes
 * gives it: the head, if that is as new as anything that was seen, and as `since`. Throws `ChainUnavailableError` where no node has it.
 */
async function askPinned<Answer>(
  ask: AskRpc,
  seen: NewestSeen,
  since: bigint,
  question: (head: Header) => { calls: readonly RpcCall[]; read(answers: readonly unknown[]): Answer },
): Promise<Answer> {
  for (let look = 1; ; look += 1) {
    const [head] = await ask([latestBlock]);
    try {
      const header = readHeader(resultOf(head));
      const known = seen.block();
      if (header.number < (since > known ? since : known))
        throw new ChainUnavailableError('the RPC is behind a block that it gave before');
      seen.see(header.number);
      const { calls, read } = question(header);
      return read((await ask(calls)).map(resultOf));
    } catch (error) {
      if (!(error instanceof ChainUnavailableError) || look === looksMax) throw error;
    }
    await sleep(pauseMs * look);
  }
}

/** The state of one block, and of no other. */
function atBlock({ hash }: Pick<Block, 'hash'>): { blockHash: Hex; requireCanonical: true } {
  return { blockHash: hash, requireCanonical: true };
}

/** What one block says of a payment, as far as it matters whose fault it is that it can't be settled. */
export interface PaymentState {
  used: boolean;
  /** What the payer has, before whatever would be settled in front of this. */
  balance: bigint;
  hasCode: boolean;
  /** Whether the token refuses whatever this payer pays; never of a token that keeps no such list. */
  isBlacklisted: boolean;
  /** Of the block. */
  timestamp: bigint;
  /** Whether the transfer would go through behind `before`; nothing where that wasn't asked. */
  passes: boolean | undefined;
}

/** What is looked at. */
export interface Look {
  authorizations: readonly Authorization[];
  /** Their transfers were tried in this block: what the payers had is read there, and nothing older is believed of their nonces. */
  tried?: Block | undefined;
  /** The same of a block of which only the number is known. */
  since?: bigint | undefined;
  /** The same as payments to be tried now, and what would be settled in front of them. */
  trial?: { payments: readonly ExactPayment[]; before: readonly ExactPayment[] } | undefined;
}

/** Looks at payments in the newest block that is known; each in its place. */
export async function lookAt(
  { ask, seen, contracts }: { ask: AskRpc; seen: NewestSeen; contracts: Contracts },
  { authorizations, tried, since = 0n, trial }: Look,
): Promise<PaymentState[]> {
  const payers = [...new Set(authorizations.map(({ from }) => from))];
  const transfers = trial ? [...trial.before, ...trial.payments].map(transferCall) : [];
  return askPinned(ask, seen, tried?.number ?? since, (head) => {
    const fundsAt = tried ?? head;
    return {
      calls: [
        pin(blockView(contracts, authorizations.map(stateCall)), head),
        pin(blockView(contracts, payers.map(balanceCall)), fundsAt),
        pin(viewOf({ data: encodeCodeCheck(payers) }), fundsAt),
        pin(blockView(contracts, payers.map(blacklistCall)), fundsAt),
        ...(trial ? [pin(batchView(contracts, transfers), head)] : []),
      ],
      read([states, funds, codes, lists, trials]) {
        const used = wordsOf(states, authorizations.length, head).map(booleanOf);
        const balances = wordsOf(funds, payers.length, fundsAt).map(wordOf);
        const codeOf = decodeCodeCheck(bytesOf(codes), payers.length);
        const listed = answersOf(lists, payers.length, fundsAt).map(isYes);
        const outcomes = trial
          ? readBatch({ result: trials }, transfers.length).slice(trial.before.length)
          : [];
        return authorizations.map(({ from }, index) => ({
          used: used[index] ?? false,
          balance: (balances[payers.indexOf(from)] ?? 0n) - sumOf(from, trial?.before),
          hasCode: codeOf[payers.indexOf(from)] ?? false,
          isBlacklisted: listed[payers.indexOf(from)] ?? false,
          timestamp: head.timestamp,
          passes: outcomes[index]?.success,
        }));
      },
    };
  });
}

function pin({ method, params: [call] }: RpcCall, block: Block): RpcCall {
  return { method, params: [call, atBlock(block)] };
}

/** What a block gave; throws where it was another's, as where a node takes the name of a block that it hasn't got for its latest. */
function answersOf(answer: unknown, count: number, block: Block): ReturnType<typeof readBatch> {
  const [number, ...answers] = readBatch({ result: answer }, count + 1);
  if (wordOf(number?.data) !== block.number)
    throw new ChainUnavailableError('the RPC gave the state of another block');
  return answers;
}

/** The words that a block gave. */
function wordsOf(answer: unknown, count: number, block: Block): unknown[] {
  return answersOf(answer, count, block).map(({ data }) => data);
}

/** A token that doesn't know the question says nothing, or something that is no word. */
function isYes({ success, data }: ReturnType<typeof readBatch>[number]): boolean {
  return success && data.length === 66 && BigInt(data) === 1n;
}

function sumOf(payer: Address, before: readonly ExactPayment[] = []): bigint {
  return before.reduce(
    (sum, { authorization }) => sum + (authorization.from === payer ? authorization.value : 0n),
    0n,
  );
}

/** How many transactions of an account a block so far below the head counts, and which block that is. */
export async function countAt(
  { ask, seen }: { ask: AskRpc; seen: NewestSeen },
  account: Address,
  depth: bigint,
): Promise<{ count: bigint; block: bigint }> {
  return askPinned(ask, seen, 0n, (head) => {
    const block = head.number > depth ? head.number - depth : 0n;
    const at = depth === 0n ? atBlock(head) : `0x${block.toString(16)}`;
    return {
      calls: [{ method: 'eth_getTransactionCount', params: [account, at] }],
      read: ([count]) => ({ count: quantityOf(count), block: head.number }),
    };
  });
}
