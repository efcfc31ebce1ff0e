import type { RequestListener, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { decode, sendPaid } from '../helpers/payer.ts';
import { openScenes } from '../helpers/scenes.ts';
import { price } from '../helpers/seller.ts';

describe.concurrent('when the upstream fails', { timeout: 60_000 }, () => {
  const scenes = openScenes();

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
      const { upstream, url, payment, spent, earned } = await scenes.set(name, listener);
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
      expect(await earned()).toBe(price);
    },
  );

  it.each([400, 404, 422, 429])(
    "its %i passes through in the upstream's words, uncharged, and the payment is still good",
    async (status) => {
      const { upstream, url, payment, spent } = await scenes.set(`status-${status}`, (_, response) =>
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
    const { upstream, url, payment, spent } = await scenes.set('leaving', (_, response) => {
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
    const { upstream, url, payment, spent } = await scenes.set('gone', (_, response) =>
      response.end('never'),
    );
    await upstream.close();
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
