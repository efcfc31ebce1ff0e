import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { describe, expect, it } from 'vitest';

import type { AdaptiveCall } from './forward-adaptive.ts';
import { answer, ask, call, forwarder, listen, rawUpstream, readBody, upstream } from './forward.fixture.ts';
import type { HeldStream } from './held-stream.ts';
import type { StreamEnd } from './outlet.ts';

const eventStream = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n';
const chunked = `${eventStream}Transfer-Encoding: chunked\r\n\r\n`;

interface Step {
  stream: HeldStream;
  response: ServerResponse;
  /** Until the test says so, the gateway doesn't pipe. */
  decide: () => void;
}

/** A gateway whose calls of `origin` must be streams: it holds each until the test has decided, and then pipes it. */
async function gateway(origin: string, parts: Partial<AdaptiveCall> = {}, made = forwarder()) {
  const held = Promise.withResolvers<Step>();
  const ended = Promise.withResolvers<StreamEnd>();
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const outcome = await made.forwardAdaptive(call(origin, { method: request.method ?? 'GET', ...parts }));
    if (outcome.kind !== 'stream') {
      response.writeHead(500).end(JSON.stringify(outcome));
      return held.reject(new Error(`no stream but ${JSON.stringify(outcome)}`));
    }
    const decided = Promise.withResolvers<void>();
    held.resolve({ stream: outcome, response, decide: decided.resolve });
    await decided.promise;
    const end = await outcome.pipe(response, ['X-Paid', 'yes']);
    if (end.kind === 'failed' && !end.headSent) response.writeHead(502).end(end.reason);
    ended.resolve(end);
  };
  const server = createServer((...exchange) => void serve(...exchange));
  return { origin: await listen(server), held: held.promise, end: ended.promise };
}

/** Asks the gateway, and decides at once. */
async function stream(origin: string, parts: Partial<AdaptiveCall> = {}) {
  const proxy = await gateway(origin, parts);
  const response = answer((await ask(proxy.origin)).end());
  const { decide, response: sending } = await proxy.held;
  decide();
  return { response: await response, sending, end: proxy.end };
}

/** Sends `size` bytes as fast as they are taken, and says how many were. */
async function fastUpstream(size: number) {
  const sent = { bytes: 0, hash: createHash('sha256'), isCut: false };
  const origin = await upstream((_request, response) => {
    response.on('close', () => (sent.isCut = true));
    const send = () => {
      let isTaken = true;
      while (isTaken && sent.bytes < size) {
        const block = randomBytes(64 * 1024);
        sent.bytes += block.length;
        sent.hash.update(block);
        isTaken = response.write(block);
      }
      if (isTaken) response.end();
      else response.once('drain', send);
    };
    send();
  });
  return { origin, sent };
}

/** Resolves when a count has stood still for a while. */
async function stillness(count: () => number): Promise<void> {
  for (let before = -1; before !== count(); await delay(150)) before = count();
}

describe('a held stream', () => {
  it('is there at the head, and passes each event as it comes', async () => {
    let upstreamResponse: ServerResponse | undefined;
    const origin = await upstream((_request, response) => {
      upstreamResponse = response;
      response.writeHead(200, { 'Content-Type': 'Text/Event-Stream ; charset=utf-8' }).flushHeaders();
    });
    const { response, end } = await stream(origin);
    expect([response.statusCode, response.headers['x-paid'], response.headers['transfer-encoding']]).toEqual([
      200,
      'yes',
      'chunked',
    ]);
    for (const event of ['data: 1\n\n', 'data: 2\n\n']) {
      upstreamResponse?.write(event);
      expect((await once(response, 'data')).toString()).toBe(event);
    }
    upstreamResponse?.end();
    await once(response, 'end');
    expect(response.complete).toBe(true);
    expect(await end).toEqual({ kind: 'response', status: 200, bodyBytes: 18 });
  });

  it('is an answer that declares more than the limit, and keeps its length', async () => {
    const body = randomBytes(1001);
    const origin = await upstream((_request, response) =>
      response.writeHead(201, { 'Content-Length': '1001' }).end(body),
    );
    const { response } = await stream(origin);
    expect([response.statusCode, response.headers['content-length']]).toEqual([201, '1001']);
    expect(await readBody(response)).toBe(body.toString());
  });

  it('is an answer that grows past the limit: what was collected goes out first', async () => {
    const body = 'abcdefghij'.repeat(500);
    const origin = await upstream(async (_request, response) => {
      for (let at = 0; at < body.length; at += 10) {
        response.write(body.slice(at, at + 10));
        if (at % 500 === 0) await delay(1);
      }
      response.end();
    });
    const { response, end } = await stream(origin);
    expect(await readBody(response)).toBe(body);
    expect(await end).toMatchObject({ kind: 'response', bodyBytes: body.length });
  });

  it('has no limit for the whole of it', async () => {
    const origin = await upstream(async (_request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' });
      for (let event = 0; event < 8; event += 1) {
        response.write('.');
        await delay(50);
      }
      response.end();
    });
    const { response } = await stream(origin, { timeoutMs: 200, idleTimeoutMs: 200 });
    expect(await readBody(response)).toBe('........');
  });

  it.each([
    ['103 before', `HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n${chunked}2\r\nhe\r\n0\r\n\r\n`],
    ['trailers after', `${chunked}2\r\nhe\r\n0\r\nX-Trailer: 1\r\n\r\n`],
    ['its length', `${eventStream}Content-Length: 2\r\n\r\nhe`],
  ])('passes a body with %s', async (_name, bytes) => {
    const { response } = await stream(await rawUpstream(bytes));
    expect([response.statusCode, response.headers.link, await readBody(response)]).toEqual([
      200,
      undefined,
      'he',
    ]);
    expect(response.trailers).toEqual({});
  });

  it('passes a body that ends with the connection', async () => {
    const { response } = await stream(await rawUpstream(`${eventStream}\r\nhello`, 'ends'));
    expect(await readBody(response)).toBe('hello');
  });

  it.each([
    ['that declares its length', 1000, true],
    ['that grows past the limit', 1_000_000, false],
  ])('stops an upstream %s until it is piped, and loses nothing', async (_name, limit, isDeclared) => {
    const size = 64 * 1024 * 1024;
    const { origin, sent } = await fastUpstream(size);
    const declaring = isDeclared ? await declaringUpstream(origin, size) : origin;
    const proxy = await gateway(declaring, { bufferBytesMax: limit });
    const asked = answer((await ask(proxy.origin)).end());
    const { decide } = await proxy.held;
    await stillness(() => sent.bytes);
    expect(sent.bytes).toBeLessThan(size / 2);
    decide();
    const hash = createHash('sha256');
    for await (const chunk of await asked) hash.update(chunk);
    expect(hash.digest('hex')).toBe(sent.hash.digest('hex'));
    expect(await proxy.end).toEqual({ kind: 'response', status: 200, bodyBytes: size });
  });

  it('holds a fast upstream back for a slow client', async () => {
    const size = 64 * 1024 * 1024;
    const { origin, sent } = await fastUpstream(size);
    const { response } = await stream(origin);
    await stillness(() => sent.bytes);
    expect(sent.bytes).toBeLessThan(size / 2);
    const hash = createHash('sha256');
    for await (const chunk of response) hash.update(chunk);
    expect(hash.digest('hex')).toBe(sent.hash.digest('hex'));
  });

  it('is let go when it is cancelled, with its place', async () => {
    const { origin, sent } = await fastUpstream(64 * 1024 * 1024);
    const made = forwarder({ callsPerOriginMax: 1 });
    const outcome = await made.forwardAdaptive(call(origin));
    if (outcome.kind !== 'stream') throw new Error(outcome.kind);
    expect(await made.forwardAdaptive(call(origin))).toMatchObject({ kind: 'failed', reason: 'busy' });
    outcome.cancel();
    await expect.poll(() => sent.isCut).toBe(true);
    expect(await made.forwardAdaptive(call(origin))).toMatchObject({ kind: 'stream' });
  });

  it.each(['while it is held', 'in the body'])('is let go when the client leaves %s', async (when) => {
    const { origin, sent } = await fastUpstream(64 * 1024 * 1024);
    const proxy = await gateway(origin);
    const request = (await ask(proxy.origin)).end();
    const { decide, response } = await proxy.held;
    if (when === 'in the body') {
      decide();
      await answer(request);
    }
    expect(sent.isCut).toBe(false);
    const left = once(response, 'close');
    request.destroy();
    await left;
    decide();
    expect(await proxy.end).toEqual({ kind: 'client_left' });
    await expect.poll(() => sent.isCut).toBe(true);
  });

  it('is taken once', async () => {
    const { origin } = await fastUpstream(2000);
    const proxy = await gateway(origin);
    void (await ask(proxy.origin)).end();
    const { stream: held, response } = await proxy.held;
    held.cancel();
    await expect(held.pipe(response, [])).rejects.toThrow('taken once');
    expect(response.headersSent).toBe(false);
  });

  it('is let go when its head is malformed, which is left to the caller', async () => {
    const { origin, sent } = await fastUpstream(64 * 1024 * 1024);
    const proxy = await gateway(origin);
    const asked = answer((await ask(proxy.origin)).end());
    const { stream: held, response } = await proxy.held;
    await expect(held.pipe(response, ['X-Paid', 'a\r\nb'])).rejects.toThrow('Invalid character');
    await expect.poll(() => sent.isCut).toBe(true);
    response.writeHead(500).end('our fault');
    expect(await readBody(await asked)).toBe('our fault');
  });
});

describe('a held stream whose upstream fails', () => {
  it.each([
    ['resets', `${chunked}2\r\nhe\r\n`, 'resets', 'reset'],
    ['resets where the body ends with the connection', `${eventStream}\r\nhe`, 'resets', 'reset'],
    ['ends before its length', `${eventStream}Content-Length: 5\r\n\r\nhe`, 'ends', 'reset'],
    ['breaks its framing', `${chunked}2\r\nhe\r\nzz\r\n`, 'hangs', 'invalid_response'],
    ['stalls', `${chunked}2\r\nhe\r\n`, 'hangs', 'timeout'],
  ] as const)('is cut for the client once the upstream %s', async (_name, bytes, then, reason) => {
    const { response, end } = await stream(await rawUpstream(bytes, then), { idleTimeoutMs: 200 });
    let received = '';
    response.on('data', (chunk: Buffer) => (received += chunk.toString()));
    await expect(once(response, 'end')).rejects.toThrow('aborted');
    expect([received, response.complete]).toEqual(['he', false]);
    expect(await end).toMatchObject({ kind: 'failed', headSent: true, reason });
  });

  it('gives out what was collected before it cuts', async () => {
    const body = 'x'.repeat(9_000_000);
    const bytes = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n`;
    const { response, end } = await stream(await rawUpstream(bytes, 'ends'), { bufferBytesMax: 8_000_000 });
    let received = 0;
    response.on('data', (chunk: Buffer) => (received += chunk.length));
    await expect(once(response, 'end')).rejects.toThrow('aborted');
    expect(received).toBe(body.length);
    expect(await end).toMatchObject({ kind: 'failed', headSent: true, reason: 'reset' });
  });

  it('leaves the answer to the caller where it failed while held, before any body', async () => {
    const proxy = await gateway(await rawUpstream(chunked, 'resets'));
    const asked = answer((await ask(proxy.origin)).end());
    const { decide } = await proxy.held;
    await delay(100);
    decide();
    const response = await asked;
    expect([response.statusCode, await readBody(response)]).toEqual([502, 'reset']);
    expect(await proxy.end).toMatchObject({ kind: 'failed', headSent: false, reason: 'reset' });
  });

  it('gives out what came where it failed while held, and cuts', async () => {
    const proxy = await gateway(await rawUpstream(`${chunked}2\r\nhe\r\n`, 'resets'));
    const asked = answer((await ask(proxy.origin)).end());
    const { decide } = await proxy.held;
    await delay(100);
    decide();
    const response = await asked;
    expect(response.statusCode).toBe(200);
    expect((await once(response, 'data')).toString()).toBe('he');
    await expect(once(response, 'end')).rejects.toThrow('aborted');
    expect(await proxy.end).toMatchObject({ kind: 'failed', headSent: true, reason: 'reset' });
  });

  it('does not count the time in which it is held', async () => {
    const origin = await rawUpstream(`${chunked}2\r\nhe\r\n0\r\n\r\n`);
    const proxy = await gateway(origin, { timeoutMs: 100, idleTimeoutMs: 100 });
    const asked = answer((await ask(proxy.origin)).end());
    const { decide } = await proxy.held;
    await delay(300);
    decide();
    expect(await readBody(await asked)).toBe('he');
    expect(await proxy.end).toMatchObject({ kind: 'response' });
  });

  it('resets the connection of a client of HTTP/1.0, to whom its end would be the end of the body', async () => {
    const proxy = await gateway(await rawUpstream(`${chunked}2\r\nhe\r\n`, 'resets'));
    const socket = connect(Number(new URL(proxy.origin).port), '127.0.0.1');
    let received = '';
    socket.on('data', (chunk: Buffer) => (received += chunk.toString()));
    socket.write('GET / HTTP/1.0\r\nHost: a\r\n\r\n');
    (await proxy.held).decide();
    await expect(once(socket, 'end')).rejects.toThrow('ECONNRESET');
    expect(received).toMatch(/^HTTP\/1.1 200[^]*\r\n\r\nhe$/);
  });

  it('lets go of a client that stops reading', async () => {
    const { origin, sent } = await fastUpstream(64 * 1024 * 1024);
    const { response, sending, end } = await stream(origin, { idleTimeoutMs: 150 });
    expect(await end).toMatchObject({ kind: 'failed', headSent: true, reason: 'timeout' });
    expect(sending.destroyed).toBe(true);
    await expect.poll(() => sent.isCut).toBe(true);
    await expect(once(response.resume(), 'end')).rejects.toThrow('aborted');
  });
});

/** Passes another upstream's body on, under a declared length. */
function declaringUpstream(origin: string, size: number): Promise<string> {
  return upstream(async (_request, response) => {
    response.writeHead(200, { 'Content-Length': String(size) });
    (await answer((await ask(origin)).end())).pipe(response);
  });
}
