import type { Address, Hex } from 'viem';
import { addressWord, judgeBatchReceipt, type ReceiptLog } from './batch-call.ts';
import type { Authorization } from '../exact/exact.ts';
import { type AskRpc, ChainUnavailableError, hashOf, quantityOf, resultOf } from './json-rpc.ts';
import type { ReceiptWatch } from './receipt-watch.ts';
import type { Receipt } from './receipts.ts';
import { batchView, booleanOf, readBatch, stateCall } from './token-calls.ts';

/** What the chain says of an authorisation's nonce, whoever used it. `unknown`: it is used, and no use is to be found. */
export type NonceUse =
  | { kind: 'cancelled' }
  | { kind: 'settled'; transaction: Hex }
  | { kind: 'unknown' }
  | { kind: 'unused' };

/** `AuthorizationUsed(address indexed,bytes32 indexed)` and `AuthorizationCanceled(…)`, of the same form (EIP-3009). */
const nonceTopics = [
  '0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5',
  '0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81',
];
/** An authorisation lives an hour at most, so its use is near the head; RPC providers cap the range of a log query. */
const logBlocks = 5_000n;
/** Providers commonly take a hundred calls in one request. */
const queriesMax = 100;

interface Asked {
  ask: AskRpc;
  watch: ReceiptWatch;
  token: Address;
}

/** What became of the nonce of each of these, in their order. */
export async function findUses(asked: Asked, authorizations: readonly Authorization[]): Promise<NonceUse[]> {
  if (authorizations.length === 0) return [];
  const [answer] = await asked.ask([batchView(asked.token, authorizations.map(stateCall))]);
  const states = readBatch(answer, authorizations.length);
  const used = authorizations.filter((_one, index) => booleanOf(states[index]?.data));
  const uses = new Map<Authorization, NonceUse>();
  for (let start = 0; start < used.length; start += queriesMax) {
    const part = used.slice(start, start + queriesMax);
    const found = await findUsesInLogs(asked, part);
    part.forEach((one, index) => uses.set(one, found[index] ?? { kind: 'unknown' }));
  }
  return authorizations.map((one) => uses.get(one) ?? { kind: 'unused' });
}

/** What the logs say of these nonces, at most as many as one request takes. */
export async function findUsesInLogs(
  { ask, watch, token }: Asked,
  authorizations: readonly Authorization[],
): Promise<NonceUse[]> {
  const [answer] = await ask([{ method: 'eth_blockNumber', params: [] }]);
  const head = quantityOf(resultOf(answer));
  const fromBlock = `0x${(head > logBlocks ? head - logBlocks : 0n).toString(16)}`;
  const answers = await ask(
    authorizations.map(({ from, nonce }) => {
      const topics = [nonceTopics, `0x${addressWord(from)}`, nonce];
      return { method: 'eth_getLogs', params: [{ address: token, topics, fromBlock }] };
    }),
  );
  const logs = answers.map((one) => readFoundLogs(resultOf(one)));
  const receipts = new Map<Hex, Receipt | undefined>();
  for (const { transaction } of logs.flat()) {
    if (!receipts.has(transaction)) receipts.set(transaction, await watch.await([transaction], 0));
  }
  return authorizations.map((one, index) => judgeUse(one, logs[index] ?? [], receipts, token));
}

/** By the transactions' own receipts: a log that its receipt doesn't have is nobody's word. */
function judgeUse(
  authorization: Authorization,
  logs: readonly FoundLog[],
  receipts: ReadonlyMap<Hex, Receipt | undefined>,
  token: Address,
): NonceUse {
  for (const { transaction, event } of logs) {
    const receipt = receipts.get(transaction);
    if (!receipt || !hasNonceLog(receipt.logs, event, authorization, token)) continue;
    const [verdict] = judgeBatchReceipt(receipt.logs, [authorization], token);
    // Used for another transfer of its payer's is as good as cancelled: it never pays this one.
    return verdict === 'settled' ? { kind: 'settled', transaction } : { kind: 'cancelled' };
  }
  return { kind: 'unknown' };
}

interface FoundLog {
  transaction: Hex;
  /** Its first topic. */
  event: Hex;
}

function readFoundLogs(answer: unknown): FoundLog[] {
  if (!Array.isArray(answer)) throw new ChainUnavailableError('the RPC answered something that is no logs');
  return answer.map((log) => {
    const { transactionHash, topics } = log as { transactionHash?: unknown; topics?: unknown[] };
    return { transaction: hashOf(transactionHash), event: hashOf(topics?.[0]) };
  });
}

function hasNonceLog(
  logs: readonly ReceiptLog[],
  event: Hex,
  { from, nonce }: Authorization,
  token: Address,
): boolean {
  const topics = [event, `0x${addressWord(from)}`, nonce.toLowerCase()].join();
  return logs.some(
    (log) => log.address.toLowerCase() === token.toLowerCase() && log.topics.join() === topics,
  );
}
