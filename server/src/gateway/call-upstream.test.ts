import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';

import { describe, expect, it } from 'vitest';

import { limits } from '../kernel/limits.ts';
import { createAnswerMemory } from './answer-memory.ts';
import { callUpstream, type UpstreamAnswer } from './call-upstream.ts';
import { answer, ask, forwarder, listen, rawUpstream, readBody, upstream } from './forward.fixture.ts';
import { sendStored, sendStream } from './respond.ts';

const callOf = (origin: string, method = 'GET') => ({
  origin,
  target: '/',
  method,
  headers: [],
  body: null,
  memory: createAnswerMemory(limits.answerMemoryMib * 1024 * 1024),
  held: { bytes: 0 },
});
const run = (origin: string, method = 'GET') => callUpstream(forwarder(), callOf(origin, method));

const answerOf = async (bytes: number) =>
  run(await upstream((_request, response) => response.end(Buffer.alloc(bytes))));

/** A gateway that gives each caller what `origin` answered, as the paid call does. */
async function gateway(origin: string) {
  const answers: UpstreamAnswer[] = [];
  const made = forwarder();
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const answered = await callUpstream(made, callOf(origin, request.method));
    answers.push(answered);
    if (answered.kind === 'stream') await sendStream(response, answered, ['X-Paid', 'yes']);
    else if (answered.kind === 'failed') response.writeHead(502).end();
    else sendStored(response, answered.response, ['X-Paid', 'yes']);
  };
  return { origin: await listen(createServer((...exchange) => void serve(...exchange))), answers };
}

const eventHeaders = ['Content-Type', 'text/event-stream', 'Cache-Control', 'public, max-age=60'];

describe('callUpstream', () => {
  it('takes an answer of up to the stored limit as a whole one, and a larger one as a stream', async () => {
    expect(await answerOf(limits.storedResponseBytes)).toMatchObject({
      kind: 'success',
      response: { status: 200, body: { length: limits.storedResponseBytes } },
    });
    expect(await answerOf(limits.storedResponseBytes + 1)).toMatchObject({ kind: 'stream', status: 200 });
  });

  it('gives a stream the client’s headers', async () => {
    const dropped = ['Set-Cookie', 'a=1', 'PAYMENT-RESPONSE', 'x', 'Connection', 'X-Own', 'X-Own', '1'];
    const origin = await upstream((_request, response) =>
      response.writeHead(200, [...eventHeaders, ...dropped]).end('data: 1\n\n'),
    );
    const answered = await run(origin);
    if (answered.kind !== 'stream') throw new Error(answered.kind);
    expect(answered.headers.filter((_part, at) => at % 2 === 0)).toEqual([
      'Content-Type',
      'Cache-Control',
      'Date',
    ]);
    answered.cancel();
  });

  it('collects the events of a 4xx, as its client is told them whole', async () => {
    const origin = await upstream((_request, response) =>
      response.writeHead(404, eventHeaders).end('data: 1\n\n'),
    );
    expect(await run(origin)).toMatchObject({
      kind: 'client_error',
      response: { status: 404, body: Buffer.from('data: 1\n\n') },
    });
  });

  it('takes a 4xx above the limit for a failure', async () => {
    const origin = await upstream((_request, response) =>
      response.writeHead(404).end(Buffer.alloc(limits.storedResponseBytes + 1)),
    );
    expect(await run(origin)).toEqual({ kind: 'failed', reason: 'too_large' });
  });

  it.each([302, 402, 500])('knows a %d for a failure without waiting for its body', async (status) => {
    const origin = await upstream((_request, response) =>
      response.writeHead(status, eventHeaders).write('data: 1\n\n'),
    );
    expect(await run(origin)).toEqual({ kind: 'failed', reason: `status ${status}` });
  });

  it('uses the connection of a failure again, and cuts one that has no end', async () => {
    const ports = new Set<number | undefined>();
    const closed: (number | undefined)[] = [];
    let isEndless = false;
    const origin = await upstream((request, response) => {
      const { remotePort } = request.socket;
      ports.add(remotePort);
      response.on('close', () => isEndless && closed.push(remotePort));
      response.writeHead(500);
      const block = Buffer.alloc(100_000);
      const send = () => {
        while (response.write(block));
        response.once('drain', send);
      };
      if (isEndless) send();
      else response.end(block);
    });
    const made = forwarder({ callsPerOriginMax: 1 });
    for (let calls = 0; calls < 3; calls += 1) {
      await expect
        .poll(() => callUpstream(made, callOf(origin)))
        .toEqual({ kind: 'failed', reason: 'status 500' });
    }
    expect(ports.size).toBe(1);
    isEndless = true;
    await expect
      .poll(() => callUpstream(made, callOf(origin)))
      .toEqual({ kind: 'failed', reason: 'status 500' });
    await expect.poll(() => closed).toEqual([...ports]);
  });

  it('has nothing of the content of a 205', async () => {
    const origin = await rawUpstream('HTTP/1.1 205 X\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n');
    expect(await run(origin)).toMatchObject({
      kind: 'success',
      response: { status: 205, body: Buffer.alloc(0) },
    });
  });
});

describe('what the client gets', () => {
  it('of events is private, and neither transformed nor collected on its way', async () => {
    const { origin } = await gateway(
      await upstream((_request, response) => response.writeHead(200, eventHeaders).end('data: 1\n\n')),
    );
    const response = await answer((await ask(origin)).end());
    expect(response.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'private, no-store, no-transform',
      'x-accel-buffering': 'no',
      'x-paid': 'yes',
    });
    expect(await readBody(response)).toBe('data: 1\n\n');
  });

  it('of a large answer is private and complete', async () => {
    const body = Buffer.alloc(5_000_000, 'x');
    const { origin } = await gateway(
      await upstream((_request, response) =>
        response.writeHead(200, { 'Content-Length': body.length, 'Cache-Control': 'public' }).end(body),
      ),
    );
    const response = await answer((await ask(origin)).end());
    expect(response.headers).toMatchObject({
      'content-length': '5000000',
      'cache-control': 'private, no-store',
    });
    expect(response.headers).not.toHaveProperty('x-accel-buffering');
    expect((await readBody(response)).length).toBe(body.length);
  });

  it.each([
    // RFC 9110 section 8.6: of what a GET would get, which nobody has counted; and none at all with a 204.
    ['HEAD', 200, 'Content-Length: 9000000\r\n', undefined],
    ['GET', 204, '', undefined],
    ['GET', 200, 'Content-Length: 0\r\n', '0'],
  ])('of %s %d without a body says no length that isn’t so', async (method, status, declared, length) => {
    const bytes = `HTTP/1.1 ${status} X\r\n${declared}Content-Type: text/plain\r\n\r\n`;
    const { origin, answers } = await gateway(await rawUpstream(bytes));
    const response = await answer((await ask(origin, method)).end());
    expect([response.statusCode, response.headers['content-length'], await readBody(response)]).toEqual([
      status,
      length,
      '',
    ]);
    expect(answers).toMatchObject([{ kind: 'success', response: { body: Buffer.alloc(0) } }]);
  });

  it.each([
    ['HEAD', 200],
    ['GET', 204],
  ])('of %s %d of events is no stream', async (method, status) => {
    const bytes = `HTTP/1.1 ${status} X\r\nContent-Type: text/event-stream\r\n\r\n`;
    expect(await run(await rawUpstream(bytes), method)).toMatchObject({
      kind: 'success',
      response: { status },
    });
  });
});
