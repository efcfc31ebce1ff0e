import type { Address, Hex } from 'viem';
import { addressWord, judgeBatchReceipt, type ReceiptLog } from './batch-call.ts';
import type { Authorization } from '../exact/exact.ts';
import { type AskRpc, ChainUnavailableError } from './json-rpc.ts';
import type { FoundLog, LogSearch, SearchRound } from './log-search.ts';
import type { NewestSeen } from './newest-seen.ts';
import { type Look, lookAt, type PaymentState } from './pinned-look.ts';
import type { ReceiptWatch } from './receipt-watch.ts';
import type { Receipt } from './receipts.ts';
import type { Contracts } from './token-calls.ts';

/** A nonce that nobody has used by the newest block that is known, and what that says besides. */
export type UnusedNonce = { kind: 'unused' } & Omit<PaymentState, 'used'>;

/** What the chain says of an authorisation's nonce, whoever used it. `unknown`: it is used, and no use is to be found. */
export type NonceUse =
  | { kind: 'cancelled' }
  | { kind: 'settled'; transaction: Hex }
  | { kind: 'unknown' }
  | UnusedNonce;

/** Searched for at a time: each adds a payer and a nonce to one query, of which providers take thousands. */
const searchedMax = 100;

interface Asked {
  ask: AskRpc;
  seen: NewestSeen;
  watch: ReceiptWatch;
  contracts: Contracts;
  search: LogSearch;
}

/** What became of the nonce of each of these, in their order. `unknown` as well where the search goes on in the next round. */
export async function findUses(asked: Asked, look: Look): Promise<NonceUse[]> {
  const { authorizations } = look;
  if (authorizations.length === 0) return [];
  const states = await lookAt(asked, look);
  const used = authorizations.filter((_one, index) => states[index]?.used);
  const uses = new Map<Authorization, NonceUse>();
  for (let start = 0; start < used.length; start += searchedMax) {
    const part = used.slice(start, start + searchedMax);
    const round = await asked.search(part);
    for (const [one, use] of await judgeUses(asked, round.found)) uses.set(one, use);
  }
  return states.map(({ used: isUsed, ...state }, index) => {
    const one = authorizations[index];
    if (!isUsed) return { kind: 'unused', ...state };
    return (one && uses.get(one)) ?? { kind: 'unknown' };
  });
}

/** The transaction that used the nonce with exactly this transfer. Throws where the search goes on in the next round. */
export async function findSettlement(asked: Asked, authorization: Authorization): Promise<Hex | undefined> {
  const { found, unfinished } = await asked.search([authorization]);
  if (unfinished.size > 0)
    throw new ChainUnavailableError('the use of a nonce is still searched for, further back');
  const use = (await judgeUses(asked, found)).get(authorization);
  return use?.kind === 'settled' ? use.transaction : undefined;
}

/** What the logs say of these nonces, by their transactions' own receipts. */
async function judgeUses(
  { watch, contracts: { token } }: Asked,
  found: SearchRound['found'],
): Promise<Map<Authorization, NonceUse>> {
  const receipts = new Map<Hex, Receipt | undefined>();
  for (const { transaction } of [...found.values()].flat()) {
    if (!receipts.has(transaction)) receipts.set(transaction, await watch.await([transaction], 0));
  }
  return new Map([...found].map(([one, logs]) => [one, judgeUse(one, logs, receipts, token)]));
}

/** A log that its receipt doesn't have is nobody's word. */
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
