import { hexToNumber, type Hex } from 'viem';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type PlantedToken, plantToken } from '../contracts/test/planted-token.ts';
import { type Authorization, newNonce, signTransfer, withBytes } from '../contracts/test/signatures.ts';
import { baseSepoliaUsdc, plantBatchContract } from '../src/embedded/index.ts';
import { createChain, networks } from '../src/x402/index.ts';
import { createRpc } from '../src/x402/chain/json-rpc.ts';
import { createLogSearch, type LogSearch } from '../src/x402/chain/log-search.ts';
import { type RpcCall, type RpcProxy, startRpcProxy } from './helpers/rpc-proxy.ts';

let usdc: PlantedToken;
let proxy: RpcProxy;
beforeAll(async () => {
  usdc = await plantToken();
  await plantBatchContract(usdc.rpcUrl);
  proxy = await startRpcProxy(usdc.rpcUrl);
});
afterAll(async () => {
  proxy?.close();
  await usdc?.stop();
});

/** How many blocks each query for logs has spanned that came through the proxy. */
let spans: number[] = [];
beforeEach(() => {
  spans = [];
  proxy.behave({ refuse: note });
});
function note(calls: readonly RpcCall[]): boolean {
  for (const { method, params } of calls) {
    if (method !== 'eth_getLogs') continue;
    const { fromBlock, toBlock } = params[0] as { fromBlock: Hex; toBlock: Hex };
    spans.push(hexToNumber(toBlock) - hexToNumber(fromBlock) + 1);
  }
  return false;
}

const openChain = () => createChain({ network: networks.sandbox, rpcUrl: proxy.url, finality: 'instant' });
const openSearch = (options: Parameters<typeof createLogSearch>[2]): LogSearch =>
  createLogSearch(
    createRpc({ rpcUrl: proxy.url, timeoutMs: 5_000, responseBytesMax: 1024 * 1024 }),
    baseSepoliaUsdc,
    options,
  );

/** Some at a time: a busy machine takes longer for thousands than a request may. */
async function mine(count: number, interval = 1): Promise<void> {
  for (let left = count; left > 0; left -= 200) {
    await usdc.client.mine({ blocks: Math.min(left, 200), interval });
  }
}

/** A payment that was settled before this many blocks. */
async function settled(blocksAgo: number): Promise<{ paid: Authorization; hash: Hex }> {
  const payer = await usdc.newPayer();
  const paid = await usdc.authorize(payer.address);
  const signature = await signTransfer(payer, paid);
  const hash = await usdc.send('transferWithAuthorization', withBytes(paid, signature));
  await mine(blocksAgo);
  return { paid, hash };
}

/** Searches until nothing is left to search; gives what each round brought. */
async function searchToEnd(search: LogSearch, one: Authorization, between = async () => {}) {
  const rounds: (Hex | 'unfinished' | undefined)[] = [];
  for (;;) {
    const { found, unfinished } = await search([one]);
    rounds.push(unfinished.has(one) ? 'unfinished' : found.get(one)?.[0]?.transaction);
    if (rounds.at(-1) !== 'unfinished') return rounds;
    await between();
  }
}

describe('what became of a nonce', () => {
  it('is searched for so long in a round, and from there on in the next, while the chain goes on', async () => {
    const { paid, hash } = await settled(230);
    const search = openSearch({ blocksAtOnce: 20n, requestsMax: 5 });
    const rounds = await searchToEnd(search, paid, () => mine(10));
    expect(rounds).toEqual(['unfinished', 'unfinished', hash]);
    // Each round looks at the newest blocks again, and at none in between twice: 5, 1 + 4, 1 + 3.
    expect(spans).toHaveLength(14);
  });

  it('is searched for anew where more blocks came between two rounds than a round searches', async () => {
    const { paid, hash } = await settled(30);
    const search = openSearch({ blocksAtOnce: 10n, requestsMax: 3 });
    let isFirst = true;
    const rounds = await searchToEnd(search, paid, async () => {
      if (isFirst) await mine(70);
      isFirst = false;
    });
    expect(rounds.at(-1)).toBe(hash);
  });

  it('is not searched for before the authorisation was good', async () => {
    await mine(100);
    const { timestamp } = await usdc.client.getBlock();
    const never = await usdc.authorize((await usdc.newPayer()).address, { validAfter: timestamp - 25n });
    const search = openSearch({ blocksAtOnce: 10n, requestsMax: 50 });
    expect(await searchToEnd(search, never)).toEqual([undefined]);
    expect(spans).toHaveLength(3);
  });

  it('is not searched for before a payment that was taken by now could have been signed', async () => {
    await mine(40, 3_600);
    const { timestamp } = await usdc.client.getBlock();
    const window = { validAfter: 0n, validBefore: timestamp + 60n, nonce: newNonce() };
    const never = await usdc.authorize((await usdc.newPayer()).address, window);
    const search = openSearch({ blocksAtOnce: 10n, requestsMax: 50 });
    expect(await searchToEnd(search, never)).toEqual([undefined]);
    // A refund is good for a day, and no payment for longer.
    expect(spans).toHaveLength(3);
  });

  it.each([
    ['query exceeds max block range 1000', 1_000],
    ['eth_getLogs requests with up to a 500 block range', 500],
    ['ranges over 60 blocks are not supported on freetier', 60],
  ])('is found at a provider that says: %s', async (message, most) => {
    const { paid, hash } = await settled(200);
    proxy.behave({
      refuse(calls, response) {
        const before = spans.length;
        note(calls);
        if (spans.slice(before).every((span) => span <= most)) return false;
        spans.splice(before);
        response.end(JSON.stringify(calls.map(({ id }) => ({ id, error: { code: -32_602, message } }))));
        return true;
      },
    });
    expect((await searchToEnd(openSearch({}), paid)).at(-1)).toBe(hash);
  });

  it('is searched for in larger ranges again once the provider takes them', async () => {
    const { paid, hash } = await settled(200);
    const search = openSearch({ blocksAtOnce: 1_000n, requestsMax: 1 });
    proxy.behave({
      refuse(calls, response) {
        if (!calls.some(({ method }) => method === 'eth_getLogs')) return false;
        const error = { code: -32_602, message: 'block range too large' };
        response.end(JSON.stringify(calls.map(({ id }) => ({ id, error }))));
        return true;
      },
    });
    await search([paid]).catch(() => undefined);
    proxy.behave({ refuse: note });
    expect(await searchToEnd(search, paid)).toEqual([hash]);
    const other = await settled(400);
    expect((await searchToEnd(search, other.paid)).at(-1)).toBe(other.hash);
    expect(Math.max(...spans)).toBeGreaterThan(250);
  });

  it('is not known where the provider gives no logs for another reason', async () => {
    const { paid } = await settled(1);
    proxy.behave({
      refuse(calls, response) {
        const error = { code: -32_005, message: 'daily request count exceeded' };
        response.end(JSON.stringify(calls.map(({ id }) => ({ id, error }))));
        return true;
      },
    });
    await expect(openSearch({})([paid])).rejects.toThrow('daily request count exceeded');
  });

  // Thousands of blocks take anvil some seconds.
  it('is found though more blocks have come since than a provider lets search at once', async () => {
    const deep = await settled(5_100);
    const near = await settled(1);
    const never = await usdc.authorize((await usdc.newPayer()).address);
    const chain = openChain();
    expect(await chain.findSettlement(deep.paid)).toBe(deep.hash);
    expect(spans).toEqual([5_000, expect.any(Number)]);
    expect(await chain.findUses([near.paid, never, deep.paid])).toEqual([
      { kind: 'settled', transaction: near.hash },
      expect.objectContaining({ kind: 'unused' }),
      { kind: 'settled', transaction: deep.hash },
    ]);
    // One search for all of them.
    expect(spans).toHaveLength(4);
  }, 300_000);
});
