import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { type Hex, toHex } from 'viem';
import type { AskRpc } from './json-rpc.ts';
import { createReceiptWatch } from './receipt-watch.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

const later = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const hashOf = (block: number): Hex => toHex(block, { size: 32 });

const headerOf = (block: number) => ({
  number: toHex(block),
  hash: hashOf(block),
  timestamp: '0x1',
  baseFeePerGas: '0x1',
});

/** A chain that makes a block of each transaction, `mineMs` after it was sent; each way to its RPC takes `travelMs`. */
function openChain(
  mineMs: number,
  travelMs: number,
): { send(takesMs?: number): Hex; ask: AskRpc; asked(): number } {
  const minedAtMs: number[] = [];
  let asked = 0;
  return {
    send: (takesMs = mineMs) => hashOf(minedAtMs.push(performance.now() + takesMs)),
    asked: () => asked,
    async ask(calls) {
      asked += 1;
      await later(travelMs);
      const head = minedAtMs.filter((atMs) => atMs <= performance.now()).length;
      const answers = calls.map(({ method, params: [first] }) => {
        if (method === 'eth_getBlockByNumber')
          return { result: headerOf(first === 'latest' ? head : Number(first)) };
        const block = Number(first);
        const receipt = { transactionHash: first, blockNumber: toHex(block), blockHash: first, logs: [] };
        return { result: block > head ? null : { ...receipt, status: '0x1' } };
      });
      await later(travelMs);
      return answers;
    },
  };
}

it.each([
  { mineMs: 4, travelMs: 1 },
  { mineMs: 4, travelMs: 2 },
  { mineMs: 30, travelMs: 2 },
])(
  'a receipt is looked for a few times, when it is about time: $mineMs ms, and $travelMs ms to the RPC',
  async ({ mineMs, travelMs }) => {
    const { send, ask, asked } = openChain(mineMs, travelMs);
    const watch = createReceiptWatch(ask, { see: () => undefined });
    const waited: number[] = [];
    let before = 0;
    for (let round = 0; round < 80; round += 1) {
      if (round === 60) before = asked();
      const sentMs = performance.now();
      const found = watch.await([send()], 1_000).then(() => waited.push(performance.now() - sentMs));
      await vi.advanceTimersByTimeAsync(200);
      await found;
    }
    const usual = Math.max(...waited.slice(60));
    expect(usual).toBeLessThanOrEqual(mineMs * 1.2 + travelMs * 4);
    expect((asked() - before) / 20).toBeLessThanOrEqual(4);
  },
);

it('a transaction that lay for long keeps those after it from being found at once for some batches only', async () => {
  const { send, ask } = openChain(4, 1);
  const watch = createReceiptWatch(ask, { see: () => undefined });
  const waited: number[] = [];
  for (let round = 0; round < 60; round += 1) {
    const takesMs = round === 10 ? 29_000 : 4;
    const sentMs = performance.now();
    const found = watch.await([send(takesMs)], 30_000).then(() => waited.push(performance.now() - sentMs));
    await vi.advanceTimersByTimeAsync(takesMs + 200);
    await found;
  }
  expect(waited[10]).toBeGreaterThan(29_000);
  expect(Math.max(...waited.slice(50))).toBeLessThanOrEqual(12);
});
