import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fundAccount } from '../../src/embedded/index.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askTerms, newPayer, openChain, sendPaid, settleOnChain } from '../helpers/payer.ts';
import { price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

describe('a payer with one cent', { timeout: 30_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;

  beforeAll(async () => {
    instance = await startInstance();
    upstream = await startUpstream((_request, response) => {
      setTimeout(() => response.end('work'), 200);
    });
    sold = await sell(instance, upstream.url, 'cent');
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  it('gets one upstream run for it, though it signs a thousand payments and sends them at once', async () => {
    const payer = await newPayer(instance, price);
    const url = `${sold.url}/paid/answer`;
    const terms = await askTerms(url);
    const payments = await Promise.all(Array.from({ length: 1_000 }, () => payer.pay(terms)));
    const answers = await Promise.all(payments.map((payment) => sendPaid(url, payment)));

    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    const refused = answers.filter(({ status }) => status === 402);
    expect(refused).toHaveLength(999);
    expect(new Set(refused.map(({ text }) => JSON.parse(text).code))).toEqual(
      new Set(['insufficient_funds']),
    );
    expect(upstream.requests).toHaveLength(1);
    expect(await openChain(instance).balanceOf(sold.payTo)).toBe(price);
  });

  it('that it spends elsewhere while the work is done is suspended, and gets no second run', async () => {
    const payer = await newPayer(instance, price);
    const url = `${sold.url}/paid/answer`;
    upstream.requests.length = 0;
    const elsewhere = await payer.pay(await askTerms(url));
    upstream.behave((_request, response) => {
      void settleOnChain(instance, elsewhere).then(() => response.end('work'));
    });
    const first = await sendPaid(url, await payer.pay(await askTerms(url)));
    expect([first.status, JSON.parse(first.text).code]).toEqual([402, 'settlement_failed']);
    await fundAccount(instance.info.rpc_url, { address: payer.address, tokenAtomic: price });

    const second = await sendPaid(url, await payer.pay(await askTerms(url)));
    expect([second.status, JSON.parse(second.text).code]).toEqual([402, 'payer_suspended']);
    expect(upstream.requests).toHaveLength(1);
  });
});
