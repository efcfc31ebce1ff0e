import type { RequestListener } from 'node:http';
import type { PaymentPayload } from '@x402/core/types';
import { afterAll, beforeAll } from 'vitest';
import { type Instance, startInstance } from './instance.ts';
import { askTerms, newPayer, openChain, type Payer } from './payer.ts';
import { price, sell, type Sold } from './seller.ts';
import { startUpstream, type Upstream } from './upstream.ts';

/** What a payer of a scene has at first. */
export const funds = 10n * price;

/** A seller, an upstream and a payer for one test alone, and the payment that buys a call: scenes run side by side. */
export interface Scene {
  upstream: Upstream;
  sold: Sold;
  /** Of the endpoint that costs the price. */
  url: string;
  payer: Payer;
  payment: PaymentPayload;
  /** What the chain says that the payer has paid, and the seller got: nobody else pays or is paid here, hosted sellers apart. */
  spent(): Promise<bigint>;
  earned(): Promise<bigint>;
}

export interface Scenes {
  /** Runs from the first test to the last. */
  readonly instance: Instance;
  set(name: string, listener: RequestListener, options?: Parameters<typeof sell>[3]): Promise<Scene>;
  /** While the chain makes no blocks, nothing is settled. */
  setMining(on: boolean): Promise<unknown>;
}

/** One instance for all tests of the suite that this is called in. */
export function openScenes(env: Record<string, string> = {}): Scenes {
  let instance: Instance | undefined;
  const upstreams: Upstream[] = [];
  const running = (): Instance => {
    if (!instance) throw new Error('the instance runs while tests do');
    return instance;
  };

  beforeAll(async () => {
    instance = await startInstance({ env });
  }, 60_000);
  afterAll(async () => {
    await Promise.all(upstreams.map((upstream) => upstream.close()));
    await instance?.stop();
  }, 60_000);

  return {
    get instance() {
      return running();
    },
    async set(name, listener, options) {
      const upstream = await startUpstream(listener);
      upstreams.push(upstream);
      const sold = await sell(running(), upstream.url, name, options);
      const payer = await newPayer(running(), funds);
      const url = `${sold.url}/paid`;
      const chain = openChain(running());
      return {
        upstream,
        sold,
        url,
        payer,
        payment: await payer.pay(await askTerms(url)),
        spent: async () => funds - (await chain.balanceOf(payer.address)),
        earned: () => chain.balanceOf(sold.payTo),
      };
    },
    async setMining(on) {
      const { client } = openChain(running());
      await client.request({ method: 'evm_setAutomine', params: [on] } as never);
      // What waited for a block gets one.
      if (on) await client.request({ method: 'evm_mine', params: [] } as never);
    },
  };
}
