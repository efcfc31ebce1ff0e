import type { RequestListener, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PaymentPayload } from '@x402/core/types';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askTerms, decode, newPayer, openChain, type Payer, sendPaid } from '../helpers/payer.ts';
import { price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

const funds = 100_000n;

/** A seller, an upstream and a payer for one test alone: they run side by side. */
interface Scene {
  upstream: Upstream;
  sold: Sold;
  url: string;
  payer: Payer;
  payment: PaymentPayload;
  spent(): Promise<bigint>;
}

describe.concurrent('when the upstream fails', { timeout: 60_000 }, () => {
  let instance: Instance;
  const upstreams: Upstream[] = [];

  beforeAll(async () => {
    instance = await startInstance();
  }, 60_000);
  afterAll(async () => {
    await Promise.all(upstreams.map((upstream) => upstream.close()));
    await instance?.stop();
  }, 60_000);

  async function setUp(name: string, listener: RequestListener): Promise<Scene> {
    const upstream = await startUpstream(listener);
    upstreams.push(upstream);
    const sold = await sell(instance, upstream.url, name);
    const payer = await newPayer(instance, funds);
    const url = `${sold.url}/paid?of=${name}`;
    const payment = await payer.pay(await askTerms(url));
    const spent = async () => funds - (await openChain(instance).balanceOf(payer.address));
    return { upstream, sold, url, payer, payment, spent };
  }

  it.each<[string, RequestListener, string]>([
    ['status-500', (_, response) => response.writeHead(500).end('broken'), 'status 500'],
    ['status-503', (_, response) => response.writeHead(503, { 'retry-after': '1' }).end(), 'status 503'],
    ['hang', () => undefined, 'timeout'],
    ['reset', (request) => request.socket.resetAndDestroy(), 'reset'],
    ['half-an-answer', (_, response) => halfAnAnswer(response), 'reset'],
    ['not-http', (request) => request.socket.end('what?\r\n\r\n'), 'invalid_response'],
    ['redirect', (_, response) => response.writeHead(302, { location: '/elsewhere' }).end(), 'status 302'],
    ['not-modified', (_, response) => response.writeHead(304).end(), 'status 304'],
    [
      'its-own-402',
      (_, response) => response.writeHead(402, { 'payment-required': 'e30=' }).end(),
      'status 402',
    ],
  ])(
    '%s: 502 of ours, nothing is charged, and the same payment buys the answer once it has recovered',
    async (name, listener, reason) => {
      const { upstream, sold, url, payment, spent } = await setUp(name, listener);
      const failed = await sendPaid(url, payment);
      expect(failed.status).toBe(502);
      expect(failed.json()).toMatchObject({
        code: 'upstream_failed',
        detail: expect.stringContaining(`(${reason})`),
      });
      expect(failed.headers).not.toHaveProperty('payment-response');
      expect(failed.headers).not.toHaveProperty('location');
      expect(await spent()).toBe(0n);

      upstream.behave((_, response) => response.end('recovered'));
      const answer = await sendPaid(url, payment);
      expect(answer).toMatchObject({ status: 200, text: 'recovered' });
      expect(decode(answer.headers['payment-response'])).toMatchObject({ success: true });
      expect(upstream.requests.length).toBe(2);
      expect(await spent()).toBe(price);
      expect(await openChain(instance).balanceOf(sold.payTo)).toBe(price);
    },
  );

  it.each([400, 404, 422, 429])(
    "its %i passes through in the upstream's words, uncharged, and the payment is still good",
    async (status) => {
      const { upstream, url, payment, spent } = await setUp(`status-${status}`, (_, response) =>
        response.writeHead(status, { 'x-reason': 'yours' }).end('your mistake'),
      );
      const refused = await sendPaid(url, payment);
      expect(refused).toMatchObject({ status, text: 'your mistake' });
      expect(refused.headers).toMatchObject({ 'x-reason': 'yours', 'cache-control': 'private, no-store' });
      expect(refused.headers).not.toHaveProperty('payment-response');
      expect(await spent()).toBe(0n);

      upstream.behave((_, response) => response.end('better'));
      expect(await sendPaid(url, payment)).toMatchObject({ status: 200, text: 'better' });
      expect(await spent()).toBe(price);
    },
  );

  it('a client that leaves in the middle is charged once, and fetches its answer later with the same payment', async () => {
    const { upstream, url, payment, spent } = await setUp('leaving', (_, response) => {
      setTimeout(() => response.end('late answer'), 500);
    });
    const leaving = new AbortController();
    const left = sendPaid(url, payment, { signal: leaving.signal }).catch((error: Error) => error.name);
    while (upstream.requests.length === 0) await sleep(10);
    leaving.abort();
    expect(await left).toBe('AbortError');

    // Nobody asks again: the program goes on alone, and charges for what it has stored.
    while ((await spent()) === 0n) await sleep(50);
    const answer = await sendPaid(url, payment);
    expect(answer).toMatchObject({ status: 200, text: 'late answer' });
    expect(upstream.requests.length).toBe(1);
    expect(await spent()).toBe(price);
  });

  it('an upstream that cannot be reached: 502 of ours, and nothing is charged', async () => {
    const { upstream, url, payment, spent } = await setUp('gone', (_, response) => response.end('never'));
    await upstream.close();
    upstreams.splice(upstreams.indexOf(upstream), 1);
    const failed = await sendPaid(url, payment);
    expect(failed.status).toBe(502);
    expect(failed.json()).toMatchObject({ detail: expect.stringContaining('(connect)') });
    expect(await spent()).toBe(0n);
  });
});

function halfAnAnswer(response: ServerResponse): void {
  response.writeHead(200, { 'content-length': 100 }).write('half');
  setTimeout(() => response.destroy(), 50);
}
