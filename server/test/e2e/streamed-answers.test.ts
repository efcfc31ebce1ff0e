import { once } from 'node:events';
import { type IncomingMessage, request, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PaymentPayload } from '@x402/core/types';
import { describe, expect, it } from 'vitest';
import { fundAccount } from '../../src/embedded/index.ts';
import { limits } from '../../src/kernel/limits.ts';
import {
  askTerms,
  decode,
  encode,
  openChain,
  type Payer,
  sendPaid,
  settleOnChain,
} from '../helpers/payer.ts';
import { openScenes } from '../helpers/scenes.ts';
import { price } from '../helpers/seller.ts';

const kept = 4 * 1024 * 1024;

/** Sends a payment and gives the response at its head, its body still coming. */
async function open(url: string, payment: PaymentPayload): Promise<IncomingMessage> {
  const headers = { 'x-agent-id': 'a-buyer', 'payment-signature': encode(payment) };
  const call = request(url, { headers });
  call.end();
  const [response] = (await once(call, 'response')) as [IncomingMessage];
  return response;
}

/** Whatever was sent to the gateway before, it has heard of it by then. */
async function letHear(url: string): Promise<void> {
  await askTerms(url);
  await askTerms(url);
}

describe('an answer that is not kept', { timeout: 60_000 }, () => {
  const scenes = openScenes();

  it('a stream of events is paid for at its headers, and each event comes as it is sent', async () => {
    let events: ServerResponse | undefined;
    const { url, payment, earned } = await scenes.set('events', (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: 1\n\n');
      events = response;
    });
    const response = await open(url, payment);
    expect(decode(response.headers['payment-response'])).toMatchObject({ success: true });
    expect(await earned(), 'charged while the stream goes on').toBe(price);
    response.setEncoding('utf8');
    expect(await once(response, 'data')).toEqual(['data: 1\n\n']);
    const next = once(response, 'data');
    events?.write('data: 2\n\n');
    expect(await next, 'the second event, though the answer has no end yet').toEqual(['data: 2\n\n']);
    events?.end();
    await once(response, 'end');
  });

  it.each<[string, (response: ServerResponse, body: Buffer) => void]>([
    [
      'that says so',
      (response, body) => response.writeHead(200, { 'content-length': body.length }).end(body),
    ],
    ['that turns out so', (response, body) => response.writeHead(200).end(body)],
  ])('an answer %s is larger than what is kept comes whole, charged once', async (name, send) => {
    const body = Buffer.alloc(kept + 70_000, 'large');
    const slug = name.replaceAll(' ', '-');
    const { upstream, url, payment, earned } = await scenes.set(slug, (_, response) => send(response, body));
    const response = await open(url, payment);
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    expect(Buffer.concat(chunks).equals(body)).toBe(true);
    expect(await earned()).toBe(price);
    expect(upstream.requests).toHaveLength(1);
  });

  it('is one run of the upstream, however often the payment is sent while it waits for its settlement', async () => {
    const { upstream, url, payer } = await scenes.set('copies', (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: 1\n\n');
    });
    const rounds = 20;
    const terms = await askTerms(url);
    for (let round = 0; round < rounds; round += 1) {
      await fundAccount(scenes.instance.info.rpc_url, { address: payer.address, tokenAtomic: price });
      const payment = await payer.pay(terms);
      const sent = [sendPaid(url, payment)];
      // Some come while it is claimed, some while it is being settled, some when it has gone out.
      for (let copy = 0; copy < 20; copy += 1) {
        await sleep(1);
        sent.push(sendPaid(url, payment));
      }
      const answers = await Promise.all(sent);
      expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
      expect(upstream.requests, 'runs').toHaveLength(round + 1);
    }
  });

  it('cannot be had again: 409 that says so, without another run or charge', async () => {
    const { upstream, url, payment, earned } = await scenes.set('once', (_, response) =>
      response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: once\n\n'),
    );
    expect(await sendPaid(url, payment)).toMatchObject({ status: 200, text: 'data: once\n\n' });
    const again = await sendPaid(url, payment);
    expect([again.status, again.json().code]).toEqual([409, 'response_not_replayable']);
    expect(upstream.requests).toHaveLength(1);
    expect(await earned()).toBe(price);
  });

  it('of the largest size that is kept can be had again', async () => {
    const body = Buffer.alloc(kept, 'x');
    const { upstream, url, payment } = await scenes.set('largest', (_, response) => response.end(body));
    expect((await sendPaid(url, payment)).text.length).toBe(kept);
    expect((await sendPaid(url, payment)).text.length).toBe(kept);
    expect(upstream.requests).toHaveLength(1);
  });

  it('whose payment cannot be settled is let go of: 402, and not a byte of it', async () => {
    const { upstream, url, payer, payment } = await scenes.set('unpaid', () => undefined);
    const gone = new Promise<void>((resolve) => {
      upstream.behave((_, response) => {
        response.on('close', resolve);
        // The money is gone before the headers come.
        void spendAll(payer).then(() => {
          response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: secret\n\n');
        });
      });
    });
    const refused = await sendPaid(url, payment);
    expect([refused.status, refused.json().code]).toEqual([402, 'settlement_failed']);
    expect(refused.text).not.toContain('secret');
    await gone;
  });

  it('whose client leaves lets the upstream go, and stays charged', async () => {
    let left: Promise<unknown> | undefined;
    const { url, payment, earned } = await scenes.set('leaving', (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n');
      left = once(response, 'close');
    });
    const response = await open(url, payment);
    response.destroy();
    await left;
    expect(await earned()).toBe(price);
  });

  it('whose client leaves before it has begun is owed to the same payment, and charged once', async () => {
    const { upstream, url, payment, spent } = await scenes.set('leaving-early', (_, response) =>
      response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: 1\n\n'),
    );
    await scenes.setMining(false);
    const leaving = new AbortController();
    const left = sendPaid(url, payment, { signal: leaving.signal }).catch((error: Error) => error.name);
    await expect.poll(() => upstream.requests.length).toBe(1);
    leaving.abort();
    expect(await left).toBe('AbortError');
    await scenes.setMining(true);
    await expect.poll(spent, { timeout: 20_000 }).toBe(price);
    expect(await sendPaid(url, payment)).toMatchObject({ status: 200, text: 'data: 1\n\n' });
    expect(upstream.requests).toHaveLength(2);
    expect((await sendPaid(url, payment)).json().code).toBe('response_not_replayable');
    expect(await spent()).toBe(price);
  });

  it('is had again no more than some times by a client that always leaves before it has begun', async () => {
    const { upstream, url, payment, spent } = await scenes.set('always-leaving', (_, response) =>
      response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: 1\n\n'),
    );
    for (let run = 1; run <= limits.streamRunsMax; run += 1) {
      const headOut = Promise.withResolvers<void>();
      const go = Promise.withResolvers<void>();
      upstream.behave((_, response) => {
        headOut.resolve();
        void go.promise.then(() =>
          response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: 1\n\n'),
        );
      });
      const leaving = new AbortController();
      const left = sendPaid(url, payment, { signal: leaving.signal }).catch((error: Error) => error.name);
      await headOut.promise;
      leaving.abort();
      expect(await left).toBe('AbortError');
      await letHear(url);
      go.resolve();
    }
    await expect.poll(async () => (await sendPaid(url, payment)).text).toContain('response_not_replayable');
    expect(upstream.requests).toHaveLength(limits.streamRunsMax);
    expect(await spent()).toBe(price);
  });

  it.each([
    ['nothing more is charged, and the same payment has it again', 'broken-direct', {}, price],
    ['it is given back by a seller whose wallet is here', 'broken-hosted', { hosted: true } as const, 0n],
  ])('whose upstream breaks off before it has begun: 502, %s', async (_name, slug, options, paid) => {
    const gone = Promise.withResolvers<void>();
    const { upstream, url, payment, spent } = await scenes.set(
      slug,
      (_, response) => {
        response.on('close', gone.resolve);
        response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
        setTimeout(() => response.destroy(), 50);
      },
      options,
    );
    await scenes.setMining(false);
    const answering = sendPaid(url, payment);
    await gone.promise;
    await letHear(url);
    await scenes.setMining(true);
    const broken = await answering;
    expect([broken.status, broken.json().code]).toEqual([502, 'upstream_failed']);
    upstream.behave((_, response) =>
      response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: 2\n\n'),
    );
    const again = await sendPaid(url, payment);
    expect(again.text).toContain(paid === price ? 'data: 2' : 'payment_refunded');
    await expect.poll(spent, { timeout: 20_000 }).toBe(paid);
    expect(upstream.requests).toHaveLength(paid === price ? 2 : 1);
  });

  it('that breaks off is cut for its client too, so that it is not taken for the whole', async () => {
    const { url, payment } = await scenes.set('broken', (_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 1\n\n');
      setTimeout(() => response.destroy(), 100);
    });
    const response = await open(url, payment);
    await expect(
      (async () => {
        for await (const _ of response) await sleep(1);
      })(),
    ).rejects.toThrow('aborted');
  });

  async function spendAll(payer: Payer): Promise<void> {
    const other = await scenes.set(`elsewhere-${payer.address.slice(2, 8).toLowerCase()}`, (_, response) =>
      response.end(),
    );
    const chain = openChain(scenes.instance);
    const balance = await chain.balanceOf(payer.address);
    const terms = await askTerms(other.url);
    await settleOnChain(scenes.instance, await payer.payWith(terms, { value: balance.toString() }));
  }
});
