import type { RequestListener } from 'node:http';
import type { Address } from 'viem';
import { describe, expect, it } from 'vitest';
import { fundAccount } from '../../src/embedded/index.ts';
import { askTerms, decode, openChain, sendPaid, settleOnChain } from '../helpers/payer.ts';
import { funds, openScenes } from '../helpers/scenes.ts';
import { callApi, price } from '../helpers/seller.ts';

describe('a payment that is settled before its call is forwarded', { timeout: 60_000 }, () => {
  const scenes = openScenes();
  const balanceOf = (account: Address) => openChain(scenes.instance).balanceOf(account);
  const setUp = (
    name: string,
    listener: RequestListener,
    settlement: 'after_success' | 'upfront' = 'upfront',
  ) => scenes.set(name, listener, { settlement, hosted: true });

  it('has moved the money by the time that the upstream hears of it, and buys one answer for all who ask', async () => {
    let seen: bigint | undefined;
    const { upstream, url, payment, spent } = await setUp('moved', (_, response) => {
      void spent().then((amount) => {
        seen = amount;
        response.end('work');
      });
    });
    const answers = await Promise.all(Array.from({ length: 10 }, () => sendPaid(url, payment)));
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 200, text: 'work' });
      expect(decode(answer.headers['payment-response'])).toMatchObject({ success: true });
    }
    expect(seen).toBe(price);
    expect(upstream.requests).toHaveLength(1);
    expect(await spent()).toBe(price);
    expect(await sendPaid(url, payment)).toMatchObject({ status: 200, text: 'work' });
    expect(upstream.requests).toHaveLength(1);
  });

  it.each<[string, RequestListener, number]>([
    ['breaks', (_, response) => response.writeHead(500).end('broken'), 502],
    ['says no', (_, response) => response.writeHead(422).end('your mistake'), 422],
  ])('is given back when the upstream %s, once, and buys nothing more', async (name, listener, status) => {
    const { upstream, url, payment, spent } = await setUp(name.replace(' ', '-'), listener);
    const failed = await sendPaid(url, payment);
    expect(failed.status).toBe(status);
    await expect.poll(spent, { timeout: 20_000 }).toBe(0n);
    const again = await sendPaid(url, payment);
    expect([again.status, again.json().code]).toEqual([409, 'payment_refunded']);
    expect(upstream.requests).toHaveLength(1);
    expect(await spent()).toBe(0n);
  });

  it('flows through where the answer is a stream', async () => {
    const { url, payment, spent } = await setUp('stream', (_, response) =>
      response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: 1\n\n'),
    );
    expect(await sendPaid(url, payment)).toMatchObject({ status: 200, text: 'data: 1\n\n' });
    expect(await spent()).toBe(price);
    expect((await sendPaid(url, payment)).json().code).toBe('response_not_replayable');
  });

  it('runs no upstream where it cannot be settled', async () => {
    const { upstream, url, payer, payment } = await setUp('empty', (_, response) => response.end('work'));
    const all = await payer.payWith(await askTerms(url), { value: funds.toString() });
    // Known to be enough when it is checked, and gone when it is settled: the checks are cached for the block.
    const [answer] = await Promise.all([sendPaid(url, payment), settleOnChain(scenes.instance, all)]);
    expect([200, 402]).toContain(answer.status);
    expect(upstream.requests.length).toBe(answer.status === 200 ? 1 : 0);
  });

  it('is what a payer owes whose earlier payment turned out to be worth nothing', async () => {
    const { upstream, url, payer } = await setUp('suspended', () => undefined, 'after_success');
    const terms = await askTerms(url);
    const elsewhere = await payer.payWith(terms, { value: funds.toString() });
    upstream.behave(
      (_, response) => void settleOnChain(scenes.instance, elsewhere).then(() => response.end('work')),
    );
    expect((await sendPaid(url, await payer.pay(terms))).json().code).toBe('settlement_failed');

    await fundAccount(scenes.instance.info.rpc_url, { address: payer.address, tokenAtomic: price });
    let left: bigint | undefined;
    upstream.behave((_, response) => {
      void balanceOf(payer.address).then((balance) => {
        left = balance;
        response.end('work');
      });
    });
    expect(await sendPaid(url, await payer.pay(terms))).toMatchObject({ status: 200, text: 'work' });
    expect(left, 'paid before the upstream ran').toBe(0n);
  });

  it('is refused for a server that is paid at an address outside, whose money cannot be given back', async () => {
    const { instance } = scenes;
    const credential = instance.info.api_key;
    const server = await callApi(instance, '/v1/servers', {
      body: { name: 'direct', base_url: 'http://127.0.0.1:9', pay_to: `0x${'12'.repeat(20)}` },
      credential,
    });
    const answer = await callApi(instance, `/v1/servers/${server.json().id}/endpoints`, {
      body: { public_path: '/first', price: '$0.01', settlement: 'upfront' },
      credential,
    });
    expect([answer.status, answer.json().code]).toEqual([400, 'invalid_request']);
  });
});
