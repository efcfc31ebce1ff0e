import type { Hex } from 'viem';
import { type AskRpc, ChainUnavailableError, resultOf, type RpcCall } from './json-rpc.ts';
import type { NewestSeen } from './newest-seen.ts';
import { type Header, readHeader, readReceipt, type Receipt } from './receipts.ts';

/** Looks for what was mined, for all who wait at once. */
export interface ReceiptWatch {
  /**
   * The receipt of whichever of these is mined first. Nothing once `patienceMs` is over, though it is asked for at least once; then
   * it throws where the RPC gave no believable answer at last.
   */
  await(hashes: readonly Hex[], patienceMs: number): Promise<Receipt | undefined>;
  /** The latest block that was seen, and when by `performance.now()`. */
  latest(): { header: Header; atMs: number } | undefined;
}

interface Waiting {
  hashes: readonly Hex[];
  sinceMs: number;
  /** When it was last asked for in vain; at first, since when it is waited for. */
  vainMs: number;
  untilMs: number;
  /** How often it was asked for, and at which head last. */
  asked: number;
  askedAt: Hex | undefined;
  error: unknown;
  resolve(receipt: Receipt | undefined): void;
  reject(error: unknown): void;
}

const shortestPauseMs = 1;
const longestPauseMs = 100;
/** Into so many pauses the time is divided that a receipt takes as a rule. */
const pausesOfUsual = 12;
/** What it takes until the chain has shown that: as long as one that mines at once. */
const usualMsAtFirst = 12;
/** A chain that mines at once has it after some looks; after that a new block is waited for. */
const looksAnyway = 8;
/** A full batch's receipt has some 300 KB. */
const hashesMax = 32;

export const latestBlock: RpcCall = { method: 'eth_getBlockByNumber', params: ['latest', false] };

/** One HTTP request a round, whoever waits: the head, and the receipts of those that the head may have brought. */
export function createReceiptWatch(ask: AskRpc, seen: Pick<NewestSeen, 'see'>): ReceiptWatch {
  const waiting = new Set<Waiting>();
  let latest: { header: Header; atMs: number } | undefined;
  let wake: (() => void) | undefined;
  let youngestMs = 0;
  /** How long it takes until a receipt is there, as a moving average. */
  let usualMs = usualMsAtFirst;
  let running = false;

  async function run(): Promise<void> {
    running = true;
    while (waiting.size > 0) {
      const head = latest?.header.hash;
      await look(findDue(waiting, head));
      endImpatient(waiting);
      // A new block may have brought those that weren't asked for in this round.
      if (latest?.header.hash !== head && findDue(waiting, latest?.header.hash).length > 0) continue;
      if (waiting.size > 0) await pause();
    }
    running = false;
  }

  async function look(due: readonly Waiting[]): Promise<void> {
    const askedMs = performance.now();
    try {
      const { header, found } = await askFor(ask, due);
      for (const one of due) if (!found.has(one)) one.vainMs = askedMs;
      latest = { header, atMs: performance.now() };
      seen.see(header.number);
      const hashOfBlock = await findBlockHashes(ask, header, [...found.values()]);
      for (const [one, receipt] of found) {
        if (!tell(one, receipt, hashOfBlock.get(receipt.block.number))) continue;
        waiting.delete(one);
        usualMs += (tookMs(one, askedMs) - usualMs) / 8;
      }
    } catch (error) {
      for (const one of waiting) one.error = error;
    }
  }

  async function pause(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    wake = resolve;
    const timer = setTimeout(resolve, pauseMs(performance.now() - youngestMs, usualMs));
    await promise;
    clearTimeout(timer);
  }

  return {
    await: (hashes, patienceMs) =>
      new Promise((resolve, reject) => {
        const sinceMs = performance.now();
        const untilMs = sinceMs + patienceMs;
        waiting.add({
          hashes,
          sinceMs,
          vainMs: sinceMs,
          untilMs,
          asked: 0,
          askedAt: undefined,
          error: undefined,
          resolve,
          reject,
        });
        youngestMs = sinceMs;
        wake?.();
        if (!running) void run();
      }),
    latest: () => latest,
  };
}

/**
 * Between the last question in vain and the one that found it: what is there before it is asked for must not be waited for as long the next
 * time. What lay for long counts as the slowest that a pause depends on.
 */
function tookMs({ sinceMs, vainMs }: Waiting, foundMs: number): number {
  return Math.min((vainMs + foundMs) / 2 - sinceMs, longestPauseMs * pausesOfUsual);
}

/** Looks often when it is about time, and ever more seldom past that. */
function pauseMs(waitedMs: number, usualMs: number): number {
  const wanted = Math.max(usualMs * 0.8 - waitedMs, usualMs / pausesOfUsual, waitedMs / pausesOfUsual);
  return Math.min(Math.max(wanted, shortestPauseMs), longestPauseMs);
}

/** Asks for the head and for these receipts in one request; gives what was found, and notes which answers made no sense. */
async function askFor(
  ask: AskRpc,
  due: readonly Waiting[],
): Promise<{ header: Header; found: Map<Waiting, Receipt> }> {
  for (const one of due) {
    one.asked += 1;
    one.error = undefined;
  }
  const hashes = due.flatMap((one) => one.hashes);
  const [head, ...answers] = await ask([latestBlock, ...hashes.map(receiptCall)]);
  const header = readHeader(resultOf(head));
  const found = new Map<Waiting, Receipt>();
  for (const one of due) {
    one.askedAt = header.hash;
    const own = answers.splice(0, one.hashes.length);
    try {
      const receipt = firstOf(one.hashes.map((hash, index) => readReceipt(resultOf(own[index]), hash)));
      if (receipt) found.set(one, receipt);
    } catch (error) {
      one.error = error;
    }
  }
  return { header, found };
}

/** Tells whoever waits, if the receipt's block is the chain's own; whether it was told. */
function tell(one: Waiting, receipt: Receipt, blockHash: Hex | undefined): boolean {
  if (blockHash === receipt.block.hash) {
    one.resolve(receipt);
    return true;
  }
  one.askedAt = undefined;
  one.error = new ChainUnavailableError(
    `the receipt of ${receipt.hash} names a block that isn't the chain's`,
  );
  return false;
}

/** Ends the waiting of those who were looked for and whose patience is over. */
function endImpatient(waiting: Set<Waiting>): void {
  for (const one of waiting) {
    if (one.asked === 0 || performance.now() < one.untilMs) continue;
    waiting.delete(one);
    if (one.error === undefined) one.resolve(undefined);
    else one.reject(one.error);
  }
}

/** Those that weren't looked for often yet, or not since the head moved; as many as fit into one request. */
function findDue(waiting: ReadonlySet<Waiting>, head: Hex | undefined): Waiting[] {
  const due: Waiting[] = [];
  let count = 0;
  for (const one of waiting) {
    if (one.asked >= looksAnyway && one.askedAt === head && one.askedAt !== undefined) continue;
    count += one.hashes.length;
    if (count > hashesMax && due.length > 0) break;
    due.push(one);
  }
  return due;
}

function receiptCall(hash: Hex): RpcCall {
  return { method: 'eth_getTransactionReceipt', params: [hash] };
}

function firstOf<T>(values: readonly (T | undefined)[]): T | undefined {
  return values.find((value) => value !== undefined);
}

/** The hash of each block that a receipt names, as the chain itself has it. */
async function findBlockHashes(
  ask: AskRpc,
  head: Header,
  receipts: readonly Receipt[],
): Promise<Map<bigint, Hex>> {
  const known = new Map([[head.number, head.hash]]);
  const missing = [...new Set(receipts.map(({ block }) => block.number))].filter((one) => !known.has(one));
  for (const [number, hash] of await askBlockHashes(ask, missing)) known.set(number, hash);
  return known;
}

/** The hash of each of these blocks of the chain; those that it doesn't have are left out. */
export async function askBlockHashes(ask: AskRpc, numbers: readonly bigint[]): Promise<Map<bigint, Hex>> {
  const found = new Map<bigint, Hex>();
  if (numbers.length === 0) return found;
  const answers = await ask(
    numbers.map((number) => ({
      method: 'eth_getBlockByNumber',
      params: [`0x${number.toString(16)}`, false],
    })),
  );
  answers.forEach((answer) => {
    const result = resultOf(answer);
    if (result === null) return;
    const header = readHeader(result);
    found.set(header.number, header.hash);
  });
  return found;
}
