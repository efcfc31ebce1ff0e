import type { Address, Hex } from 'viem';
import { limits } from '../../kernel/limits.ts';
import type { Authorization } from '../exact/exact.ts';
import { addressWord } from './batch-call.ts';
import {
  type AskRpc,
  ChainUnavailableError,
  hashOf,
  quantityOf,
  resultOf,
  type RpcCall,
} from './json-rpc.ts';
import { readHeader } from './receipts.ts';

/** A log that speaks of an authorisation's nonce. */
export interface FoundLog {
  transaction: Hex;
  /** Its first topic. */
  event: Hex;
}

/** What a round of searching has brought. */
export interface SearchRound {
  found: ReadonlyMap<Authorization, readonly FoundLog[]>;
  /** Those of which there is more to search: the next round goes on where this one has ended. */
  unfinished: ReadonlySet<Authorization>;
}

/** Searches the blocks for what became of these nonces, at most a hundred at a time. */
export type LogSearch = (authorizations: readonly Authorization[]) => Promise<SearchRound>;

/** `AuthorizationUsed(address indexed,bytes32 indexed)` and `AuthorizationCanceled(…)`, of the same form (EIP-3009). */
const nonceTopics = [
  '0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5',
  '0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81',
];
/** Some hours on any chain of ours, where nearly all is found; providers commonly take 10,000 blocks or more, and say so where they don't. */
const blocksAtOnce = 5_000n;
/** The least that a provider's free plan takes. */
const blocksMin = 10n;
/** Two days of Base's blocks in one round, which takes a second or two. */
const requestsMax = 20;
/** Clocks of ours, by which a payment is taken, may be wrong by minutes. */
const clockMarginSeconds = 600n;
/** Beyond so many searches that were broken off, the oldest begins anew. */
const cursorsMax = 10_000;

/** What has been searched already: everything from here to there. */
interface Cursor {
  low: bigint;
  high: bigint;
}

/** One authorisation in one round: searched from the head down, past what earlier rounds have searched. */
interface Place {
  authorization: Authorization;
  /** The next block to search. */
  next: bigint;
  earlier: Cursor | undefined;
}

/**
 * Makes a search through the whole life of an authorisation, from the head down, in ranges that the provider takes and so many of them in
 * a round (`options`, for tests). Before it lived its nonce was unused: it can't be used before `validAfter`, and was looked at when the payment was taken,
 * no longer before `validBefore` than a payment may be good for.
 */
export function createLogSearch(
  ask: AskRpc,
  token: Address,
  options: { blocksAtOnce?: bigint; requestsMax?: number } = {},
): LogSearch {
  const cursors = new Map<string, Cursor>();
  const blocksMax = options.blocksAtOnce ?? blocksAtOnce;
  let blocks = blocksMax;

  /** Asks for one range, in smaller steps from now on where the provider finds it too large. */
  async function askRange(to: bigint, open: readonly Place[]): Promise<Range | undefined> {
    const from = to >= blocks ? to - blocks + 1n : 0n;
    try {
      return await searchRange(ask, token, { from, to }, open);
    } catch (error) {
      if (!isRangeRefused(error) || blocks <= blocksMin) throw error;
      blocks = blocks / 4n > blocksMin ? blocks / 4n : blocksMin;
      return undefined;
    }
  }

  function remember({ authorization, next }: Place, head: bigint): void {
    const name = nameOf(authorization);
    // What lies between this round's blocks and an earlier round's can't be told by one cursor: then this round's stand.
    cursors.delete(name);
    cursors.set(name, { low: next + 1n, high: head });
    const [oldest] = cursors.keys();
    if (cursors.size > cursorsMax && oldest !== undefined) cursors.delete(oldest);
  }

  return async (authorizations) => {
    const [answer] = await ask([{ method: 'eth_blockNumber', params: [] }]);
    const head = quantityOf(resultOf(answer));
    const found = new Map<Authorization, FoundLog[]>();
    let isRefused = false;
    let open = authorizations.map((authorization): Place => ({
      authorization,
      next: head,
      earlier: cursors.get(nameOf(authorization)),
    }));
    for (let count = 0; count < (options.requestsMax ?? requestsMax) && open.length > 0; count += 1) {
      const to = open.reduce((highest, { next }) => (next > highest ? next : highest), 0n);
      const range = await askRange(to, open);
      if (!range) {
        isRefused = true;
        continue;
      }
      for (const [{ authorization }, logs] of range.found) found.set(authorization, logs);
      open = open.filter((place) => {
        if (place.next >= range.from) place.next = pastEarlier(place, range.from - 1n);
        const isOver = found.has(place.authorization) || place.next < 0n || isBeforeLife(place, range);
        if (isOver) cursors.delete(nameOf(place.authorization));
        return !isOver;
      });
    }
    for (const place of open) remember(place, head);
    // A range that was refused once may be taken now: another node has the answer, or fewer logs are in the way.
    if (!isRefused) blocks = blocks * 2n < blocksMax ? blocks * 2n : blocksMax;
    return { found, unfinished: new Set(open.map(({ authorization }) => authorization)) };
  };
}

/** Where a search goes on after it has come down to `next`: below what was searched in an earlier round, once it gets there. */
function pastEarlier(place: Place, next: bigint): bigint {
  const { earlier } = place;
  if (!earlier || next > earlier.high) return next;
  place.earlier = undefined;
  return next < earlier.low ? next : earlier.low - 1n;
}

/** Whether nothing is left to search: the range begins before the authorisation lived, and everything after that is done. */
function isBeforeLife({ authorization, next }: Place, range: Range): boolean {
  const { validAfter, validBefore } = authorization;
  const taken = validBefore - BigInt(validitySecondsMax) - clockMarginSeconds;
  return next < range.from && range.beganAt < (taken > validAfter ? taken : validAfter);
}

const validitySecondsMax = Math.max(limits.paymentValiditySecondsMax, limits.refundValiditySeconds);

interface Range {
  from: bigint;
  /** The time of its first block. */
  beganAt: bigint;
  found: ReadonlyMap<Place, FoundLog[]>;
}

async function searchRange(
  ask: AskRpc,
  token: Address,
  { from, to }: { from: bigint; to: bigint },
  open: readonly Place[],
): Promise<Range> {
  const payers = new Set(open.map(({ authorization }) => `0x${addressWord(authorization.from)}`));
  const nonces = new Set(open.map(({ authorization }) => authorization.nonce.toLowerCase()));
  const filter = {
    address: token,
    topics: [nonceTopics, [...payers], [...nonces]],
    fromBlock: hexOf(from),
    toBlock: hexOf(to),
  };
  const firstBlock: RpcCall = { method: 'eth_getBlockByNumber', params: [hexOf(from), false] };
  const [logs, first] = await ask([{ method: 'eth_getLogs', params: [filter] }, firstBlock]);
  const byName = Map.groupBy(readFoundLogs(resultOf(logs)), ({ name }) => name);
  const found = open.flatMap((place): [Place, FoundLog[]][] => {
    const own = byName.get(nameOf(place.authorization));
    return own ? [[place, own]] : [];
  });
  return { from, beganAt: readHeader(resultOf(first)).timestamp, found: new Map(found) };
}

/** What a provider says of a range that is too large for it; a rate that is too high is no matter of ranges, nor is a node's head that
 * the range goes beyond. */
function isRangeRefused(error: unknown): boolean {
  return (
    error instanceof Error &&
    !/beyond (the )?(current )?head/i.test(error.message) &&
    /range|max results|more than \d+ results|too many results|status 413/i.test(error.message)
  );
}

function readFoundLogs(answer: unknown): (FoundLog & { name: string })[] {
  if (!Array.isArray(answer)) throw new ChainUnavailableError('the RPC answered something that is no logs');
  return answer.map((log) => {
    const { transactionHash, topics } = log as { transactionHash?: unknown; topics?: unknown[] };
    const [event, payer, nonce] = (topics ?? []).map(hashOf);
    if (!event) throw new ChainUnavailableError('the RPC answered a log without topics');
    return { transaction: hashOf(transactionHash), event, name: `${payer} ${nonce}` };
  });
}

function nameOf({ from, nonce }: Authorization): string {
  return `0x${addressWord(from)} ${nonce.toLowerCase()}`;
}

function hexOf(block: bigint): Hex {
  return `0x${block.toString(16)}`;
}
