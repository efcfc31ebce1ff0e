import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askTerms, encode, newPayer, openChain, sendPaid } from '../helpers/payer.ts';
import { newFundedPayerV1, type PaymentV1 } from '../helpers/payer-v1.ts';
import { type Answer, send } from '../helpers/request.ts';
import { price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';
import { withheld } from '../helpers/withheld.ts';

const here = '198.51.100.7';

/** The trusted proxy of these tests calls from 127.0.0.3, any other from elsewhere. */
describe('a payer of version 1 behind a proxy', { timeout: 60_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let url: string;

  beforeAll(async () => {
    instance = await startInstance({ env: { CREDENCE_TRUSTED_PROXIES: '127.0.0.3' } });
    upstream = await startUpstream((_, response) => response.end(`answer ${upstream.requests.length}`));
    sold = await sell(instance, upstream.url, 'proxied');
    url = `${sold.url}/paid`;
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  const sign = async (): Promise<PaymentV1> => {
    const payer = await newFundedPayerV1(instance, price);
    return payer.pay((await send(url, { headers: { 'x-agent-id': 'agent-1' } })).json());
  };
  const through = (
    payment: PaymentV1,
    { proxy = '127.0.0.1', chain, path = url }: { proxy?: string; chain?: string; path?: string },
  ): Promise<Answer> =>
    send(path, {
      from: proxy,
      headers: {
        'x-agent-id': 'agent-1',
        'x-payment': encode(payment),
        ...(chain === undefined ? {} : { 'x-forwarded-for': chain }),
      },
    });

  it('that is trusted gets its answer again from its own address, whichever way it comes, and nobody else does', async () => {
    const payment = await sign();
    const proxy = '127.0.0.3';
    const first = await through(payment, { proxy, chain: here });
    expect(first).toMatchObject({ status: 200 });
    expect(await through(payment, { proxy, chain: here })).toMatchObject({ status: 200, text: first.text });
    const pretending = await through(payment, { proxy, chain: `192.0.2.1, ${here}` });
    expect(pretending, 'what it says of itself').toMatchObject({ status: 200, text: first.text });
    const path = `${instance.info.gateway_url}/v1/payments/status`;
    expect((await through(payment, { proxy, chain: here, path })).json()).toMatchObject({ state: 'settled' });

    for (const other of [
      { proxy, chain: '192.0.2.1' },
      { proxy, chain: `${here}, 192.0.2.1` },
      { proxy },
      { chain: here },
      {},
    ]) {
      expect(await through(payment, other), JSON.stringify(other)).toMatchObject(withheld);
      expect((await through(payment, { ...other, path })).status).toBe(404);
    }
  });

  it('that nobody trusts is charged once for a settlement that was pending, and gets its answer by asking again', async () => {
    const payment = await sign();
    const runs = upstream.requests.length;
    const earned = await openChain(instance).balanceOf(sold.payTo);
    const { client } = openChain(instance);
    await client.request({ method: 'evm_setAutomine' as never, params: [false] as never });
    let first;
    try {
      first = await through(payment, { chain: here });
    } finally {
      await client.request({ method: 'evm_setAutomine' as never, params: [true] as never });
      await client.request({ method: 'evm_mine' as never });
    }
    expect([first.status, first.json().code]).toEqual([402, 'settlement_pending']);

    const again = await through(payment, { chain: here });
    expect([again.status, again.text]).toEqual([200, `answer ${runs + 1}`]);
    const path = `${instance.info.gateway_url}/v1/payments/status`;
    expect((await through(payment, { chain: here, path })).json()).toMatchObject({ state: 'settled' });
    expect(upstream.requests.length).toBe(runs + 1);
    expect((await openChain(instance).balanceOf(sold.payTo)) - earned).toBe(price);

    for (const other of [{ chain: '192.0.2.1' }, {}, { proxy: '127.0.0.2', chain: here }])
      expect(await through(payment, other), JSON.stringify(other)).toMatchObject(withheld);
  });

  it('gets what is settled first from the call that paid, though nothing tells where it is', async () => {
    const first = await sell(instance, upstream.url, 'proxied-first', {
      settlement: 'upfront',
      hosted: true,
    });
    const path = `${first.url}/paid`;
    const payer = await newFundedPayerV1(instance, price);
    const payment = await payer.pay((await send(path, { headers: { 'x-agent-id': 'agent-1' } })).json());
    const nowhere = { proxy: '127.0.0.3', chain: 'unknown', path };
    expect((await through(payment, nowhere)).status).toBe(200);
    expect(await through(payment, nowhere), 'afterwards').toMatchObject(withheld);
  });
});

describe('a copy of a payment', { timeout: 30_000 }, () => {
  let instance: Instance;
  beforeAll(async () => {
    instance = await startInstance();
  }, 60_000);
  afterAll(async () => {
    await instance?.stop();
  }, 60_000);

  it('that comes while the upstream is at work came from the payer, and waits for the answer from wherever it is', async () => {
    const work = Promise.withResolvers<void>();
    const upstream = await startUpstream((_, response) => void work.promise.then(() => response.end('done')));
    const url = `${(await sell(instance, upstream.url, 'early')).url}/paid`;
    const payer = await newPayer(instance, price);
    const { extensions: _, ...payment } = await payer.pay(await askTerms(url));
    const first = sendPaid(url, payment);
    await expect.poll(() => upstream.requests.length).toBe(1);
    const early = sendPaid(url, payment, { from: '127.0.0.2', headers: { 'x-agent-id': 'moved' } });
    // It has looked at the claim once this one has, which was sent after it.
    await sendPaid(`${url}/other`, payment);
    work.resolve();
    const answers = await Promise.all([first, early]);
    expect(answers.map(({ status, text }) => `${status} ${text}`)).toEqual(['200 done', '200 done']);
    const late = await sendPaid(url, payment, { from: '127.0.0.2', headers: { 'x-agent-id': 'moved' } });
    expect(late).toMatchObject(withheld);
    expect(upstream.requests).toHaveLength(1);
    await upstream.close();
  });
});
