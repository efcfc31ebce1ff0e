import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PaymentPayload } from '@x402/core/types';
import { afterEach, describe, expect, it } from 'vitest';
import { askTerms, newPayer, sendPaid } from '../helpers/payer.ts';
import { openScenes, type Scene } from '../helpers/scenes.ts';
import { price } from '../helpers/seller.ts';

const mib = 1024 * 1024;
/** The largest answer that is kept. */
const largest = Buffer.alloc(4 * mib, 'answer');
/** So many of them are held at once. */
const held = 4;

const codeOf = (answer: { status: number; json(): { code?: string } }) =>
  answer.status === 200 ? 200 : answer.json().code;

describe('the memory for paid answers', { timeout: 90_000 }, () => {
  const scenes = openScenes({ CREDENCE_ANSWER_MEMORY_MIB: String((held * largest.length) / mib) });
  afterEach(() => scenes.setMining(true));

  /** Payments of as many payers: what one has is no other's matter. */
  async function signMany(url: string, count: number): Promise<PaymentPayload[]> {
    const terms = await askTerms(url);
    return Promise.all(
      Array.from({ length: count }, async () => (await newPayer(scenes.instance, price)).pay(terms)),
    );
  }

  it('is full of answers that wait for their settlement: another call is refused before it begins, and is good later', async () => {
    const { upstream, url } = await scenes.set('full', (_, response) => response.end(largest));
    const other = await scenes.set('another-origin', (_, response) => response.end('small'));
    const worthless = await other.payer.payWith(await askTerms(other.url), { value: '1' });
    const payments = await signMany(url, held + 1);
    const [late, ...early] = payments;
    await scenes.setMining(false);
    const waiting = early.map((payment) => sendPaid(url, payment));
    await expect.poll(() => upstream.requests.length, { timeout: 20_000 }).toBe(held);

    // For another's API, by somebody who would be refused anyway.
    await expect
      .poll(async () => codeOf(await sendPaid(other.url, worthless)), { timeout: 20_000 })
      .toBe('gateway_busy');
    const refused = await sendPaid(url, late);
    expect([refused.status, refused.json().code]).toEqual([503, 'gateway_busy']);
    expect(refused.headers['retry-after']).toBe('1');
    expect(upstream.requests, 'runs').toHaveLength(held);

    await scenes.setMining(true);
    for (const answer of await Promise.all(waiting))
      expect([answer.status, answer.text.length]).toEqual([200, largest.length]);
    await expect.poll(async () => (await sendPaid(url, late)).status, { timeout: 20_000 }).toBe(200);
    expect(upstream.requests, 'runs').toHaveLength(held + 1);
  });

  it('that fills up while calls run lets the rest flow through, whole and charged once', async () => {
    const asked: ServerResponse[] = [];
    const calls = 3 * held;
    const { url, earned } = await scenes.set('together', (_, response) => {
      asked.push(response);
      if (asked.length === calls) for (const one of asked) one.end(largest);
    });
    const payments = await signMany(url, calls);
    const answers = await Promise.all(payments.map((payment) => sendPaid(url, payment)));
    expect(answers.map(codeOf)).toEqual(answers.map(() => 200));
    for (const { text } of answers) expect(text.length).toBe(largest.length);
    expect(await earned()).toBe(BigInt(calls) * price);
    const again = [];
    for (const payment of payments) again.push(codeOf(await sendPaid(url, payment)));
    expect(again.filter((code) => code === 200).length, 'kept').toBeLessThanOrEqual(held);
    expect(new Set(again)).toContain('response_not_replayable');
  });

  it('is given back: by answers that were sent, that were too large, that failed, and whose clients left', async () => {
    const scene: Scene = await scenes.set('given-back', (_, response) => response.end());
    const { upstream, url, earned } = scene;
    const ways: ((response: ServerResponse) => void)[] = [
      (response) => response.end(largest),
      (response) => response.writeHead(422).end(largest),
      (response) => response.end(Buffer.alloc(largest.length + 1)),
      (response) => {
        response.write(largest);
        setTimeout(() => response.destroy(), 50);
      },
    ];
    for (const way of ways) {
      upstream.behave((_, response) => way(response));
      for (const payment of await signMany(url, held + 1)) {
        expect((await sendPaid(url, payment)).status).not.toBe(503);
      }
    }
    upstream.behave((_, response) => void sleep(200).then(() => response.end(largest)));
    for (const payment of await signMany(url, held + 1)) {
      const leaving = new AbortController();
      const [runs, before] = [upstream.requests.length, await earned()];
      const left = sendPaid(url, payment, { signal: leaving.signal }).catch(() => 'left');
      await expect.poll(() => upstream.requests.length, { timeout: 20_000 }).toBe(runs + 1);
      leaving.abort();
      expect(await left).toBe('left');
      await expect.poll(earned, { timeout: 20_000 }).toBe(before + price);
    }
    upstream.behave((_, response) => response.end(largest));
    const [last] = await signMany(url, 1);
    await expect.poll(async () => (await sendPaid(url, last)).status, { timeout: 20_000 }).toBe(200);
    // A stored answer is read into the same memory.
    for (let time = 0; time <= held; time += 1) expect((await sendPaid(url, last)).status).toBe(200);
  });
});
