import { once } from 'node:events';
import { Agent, createServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { afterEach, describe, expect, it } from 'vitest';

import { createEgressGuard, parseEgressAllow } from '../kernel/egress.ts';
import type { BufferedCall } from './forward-buffered.ts';
import type { StreamingCall, StreamingOutcome } from './forward-streaming.ts';
import { createForwarder, type Forwarder } from './forward.ts';
import type { ForwardLimits } from './upstream-pools.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function listen(server: Server): Promise<string> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => undefined);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return `http://127.0.0.1:${address.port}`;
}

const upstream = (answerer: (...exchange: Parameters<RequestListener>) => unknown) =>
  listen(createServer((request, response) => void answerer(request, response)));

/** An upstream that says these bytes to whatever it is asked, and then `hangs`, `ends` or `resets`. */
const rawUpstream = (bytes: string, then: 'hangs' | 'ends' | 'resets' = 'hangs') =>
  listen(
    createTcpServer((socket) => {
      socket.once('data', () => {
        socket.write(bytes, () => {
          if (then === 'ends') socket.end();
          // A moment later, so that the bytes arrive before the reset does.
          if (then === 'resets') setTimeout(() => socket.resetAndDestroy(), 20);
        });
      });
    }),
  );

function forwarder(limits: Partial<ForwardLimits> = {}, allowLoopback = true): Forwarder {
  const guard = createEgressGuard({ allow: parseEgressAllow(undefined), allowLoopback });
  const made = createForwarder({
    connect: guard.guardedConnect('upstream'),
    limits: { originsMax: 8, callsPerOriginMax: 16, originIdleMs: 60_000, ...limits },
  });
  cleanups.push(() => made.destroy());
  return made;
}

function call(origin: string, parts: Partial<BufferedCall> = {}): BufferedCall {
  return {
    origin,
    method: 'GET',
    target: '/',
    headers: [],
    body: null,
    timeoutMs: 2000,
    maxResponseBytes: 1000,
    ...parts,
  };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString();
}

describe('forwardBuffered', () => {
  it('sends method, target, headers and body as given, and gives back status, headers and body', async () => {
    let seen: unknown;
    const origin = await upstream(async (request, response) => {
      seen = [request.method, request.url, request.rawHeaders, await readBody(request)];
      response.writeHead(201, [
        'X-One',
        '1',
        'Vary',
        'a',
        'vary',
        'b',
        'Set-Cookie',
        'c=1',
        'Set-Cookie',
        'd=2',
      ]);
      response.end('{"ok":true}');
    });
    const outcome = await forwarder().forwardBuffered(
      call(origin, {
        method: 'POST',
        target: "/v2/a%2fb?q='%zz",
        headers: ['X-A', '1', 'x-a', '2', 'Content-Type', 'text/plain'],
        body: Buffer.from('hello'),
      }),
    );
    expect(seen).toEqual([
      'POST',
      "/v2/a%2fb?q='%zz",
      [
        'host',
        origin.slice('http://'.length),
        'connection',
        'keep-alive',
        'X-A',
        '1',
        'x-a',
        '2',
        'Content-Type',
        'text/plain',
        'content-length',
        '5',
      ],
      'hello',
    ]);
    expect(outcome).toMatchObject({ kind: 'response', status: 201, body: Buffer.from('{"ok":true}') });
    expect(outcome).toHaveProperty(
      'headers',
      expect.arrayContaining([
        'X-One',
        '1',
        'Vary',
        'a',
        'vary',
        'b',
        'Set-Cookie',
        'c=1',
        'Set-Cookie',
        'd=2',
      ]),
    );
  });

  it.each([
    ['content-length', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', 'hello'],
    [
      'chunked with trailers',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: 1\r\n\r\n',
      'hello',
    ],
    [
      '103 first',
      'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
      'hello',
    ],
    ['an empty body', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', ''],
  ])('reads a body with %s', async (_name, bytes, body) => {
    const outcome = await forwarder().forwardBuffered(call(await rawUpstream(bytes)));
    expect(outcome).toMatchObject({ kind: 'response', status: 200, body: Buffer.from(body) });
    expect(outcome).not.toHaveProperty('headers', expect.arrayContaining(['Link']));
  });

  it('reads a body that ends with the connection', async () => {
    const origin = await rawUpstream('HTTP/1.1 200 OK\r\n\r\nhello', 'ends');
    expect(await forwarder().forwardBuffered(call(origin))).toMatchObject({
      kind: 'response',
      body: Buffer.from('hello'),
    });
  });

  it.each([
    ['HEAD', 200],
    ['GET', 204],
    ['GET', 304],
  ])('%s with %d has no body, whatever length is declared', async (method, status) => {
    const origin = await rawUpstream(
      `HTTP/1.1 ${status} X\r\n${status === 204 ? '' : 'Content-Length: 5000\r\n'}ETag: "1"\r\n\r\n`,
    );
    const outcome = await forwarder().forwardBuffered(call(origin, { method }));
    expect(outcome).toMatchObject({ kind: 'response', status, body: Buffer.alloc(0) });
    expect(outcome).toHaveProperty('headers', expect.arrayContaining(['ETag', '"1"']));
  });

  it('does not follow a redirect', async () => {
    let calls = 0;
    const origin = await upstream((_request, response) => {
      calls += 1;
      response.writeHead(302, { Location: '/elsewhere' }).end();
    });
    expect(await forwarder().forwardBuffered(call(origin))).toMatchObject({ kind: 'response', status: 302 });
    expect(calls).toBe(1);
  });

  it.each([
    ['no headers', ''],
    ['half the headers', 'HTTP/1.1 200 OK\r\nContent-'],
    ['no body', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n'],
    ['half the body', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe'],
    ['no last chunk', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n'],
  ])('times out on %s, and cuts the connection', async (_name, bytes) => {
    let closed = false;
    const server = createTcpServer((socket) => {
      socket.once('data', () => socket.write(bytes));
      socket.on('close', () => (closed = true));
    });
    const origin = await listen(server);
    const started = performance.now();
    const outcome = await forwarder().forwardBuffered(call(origin, { timeoutMs: 100 }));
    expect(outcome).toEqual({
      kind: 'failed',
      reason: 'timeout',
      detail: 'no complete answer within 100 ms',
    });
    expect(performance.now() - started).toBeLessThan(1000);
    await expect.poll(() => closed).toBe(true);
  });

  it('counts a body that trickles against the same time-out', async () => {
    const origin = await upstream((_request, response) => {
      const timer = setInterval(() => response.write('.'), 20);
      response.on('close', () => clearInterval(timer));
    });
    expect(await forwarder().forwardBuffered(call(origin, { timeoutMs: 150 }))).toMatchObject({
      reason: 'timeout',
    });
  });

  it.each([
    ['before the headers', '', 'resets', 'reset'],
    ['in the body', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe', 'resets', 'reset'],
    [
      'in a chunked body',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n',
      'resets',
      'reset',
    ],
    ['by ending before the headers', '', 'ends', 'reset'],
    ['by ending in the body', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe', 'ends', 'reset'],
    [
      'by ending in the body, as announced',
      'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhe',
      'ends',
      'invalid_response',
    ],
    [
      'by ending in a chunked body',
      'HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n',
      'ends',
      'invalid_response',
    ],
    ['with no HTTP at all', 'SSH-2.0-OpenSSH_9.2\r\n', 'hangs', 'invalid_response'],
    ['with a status below 100', 'HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n', 'hangs', 'invalid_response'],
    ['with a bad status line', 'HTTP/1.1 abc OK\r\n\r\n', 'hangs', 'invalid_response'],
    ['with a bad header', 'HTTP/1.1 200 OK\r\nBad Header: 1\r\n\r\n', 'hangs', 'invalid_response'],
    [
      'with a bad chunk',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      'hangs',
      'invalid_response',
    ],
    [
      'with two lengths',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello',
      'hangs',
      'invalid_response',
    ],
    [
      'with length and chunks',
      'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'hangs',
      'invalid_response',
    ],
    [
      'with endless headers',
      `HTTP/1.1 200 OK\r\n${'X-A: 1234567890\r\n'.repeat(3000)}`,
      'hangs',
      'invalid_response',
    ],
    [
      'with an upgrade nobody asked for',
      'HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n',
      'hangs',
      'invalid_response',
    ],
  ] as const)('an upstream that fails %s is a value', async (_name, bytes, then, reason) => {
    const outcome = await forwarder().forwardBuffered(call(await rawUpstream(bytes, then)));
    expect(outcome).toEqual({ kind: 'failed', reason, detail: expect.stringMatching(/./) });
  });

  it('a refused connection is a value', async () => {
    const server = createTcpServer();
    const origin = await listen(server);
    server.close();
    await once(server, 'close');
    cleanups.pop();
    expect(await forwarder().forwardBuffered(call(origin))).toMatchObject({
      kind: 'failed',
      reason: 'connect',
      detail: expect.stringContaining('ECONNREFUSED'),
    });
  });

  it.each([
    ['a declared length', 'HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n'],
    ['what arrives', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n${'x'.repeat(1001)}\r\n`],
  ])('stops a body above the limit by %s, before its end', async (_name, bytes) => {
    expect(await forwarder().forwardBuffered(call(await rawUpstream(bytes)))).toMatchObject({
      kind: 'failed',
      reason: 'too_large',
    });
  });

  it('takes a body of exactly the limit', async () => {
    const origin = await upstream((_request, response) => response.end('x'.repeat(1000)));
    expect(await forwarder().forwardBuffered(call(origin))).toMatchObject({
      kind: 'response',
      body: Buffer.alloc(1000, 'x'),
    });
  });

  it.each([
    'http://10.0.0.1',
    'http://169.254.169.254',
    'http://localhost:PORT',
    'http://127.0.0.1:PORT',
    'https://[::1]:PORT',
  ])('refuses %s without a connection', async (origin) => {
    let connections = 0;
    const server = createTcpServer(() => (connections += 1));
    const port = new URL(await listen(server)).port;
    const outcome = await forwarder({}, false).forwardBuffered(call(origin.replace('PORT', port)));
    expect(outcome).toMatchObject({ kind: 'failed', reason: 'refused_address' });
    expect(connections).toBe(0);
  });

  it.each([
    ['target', { target: '/a b' }],
    ['target', { target: '/a\r\nX-Evil: 1' }],
    ['header', { headers: ['X-A', 'b\r\nc'] }],
    ['header', { headers: ['Transfer-Encoding', 'chunked'] }],
    ['origin', { origin: 'http://127.0.0.1:1/path' }],
    ['origin', { origin: 'not a url' }],
    ['origin', { origin: 'ftp://127.0.0.1' }],
  ])('rejects a malformed %s, which only our own code can have made: %j', async (_name, parts) => {
    const origin = await upstream((_request, response) => response.end('reached'));
    await expect(forwarder().forwardBuffered(call(origin, parts))).rejects.toThrow(/invalid|origin/i);
  });

  it('uses a connection again after an answer, and not after a time-out', async () => {
    let hang = false;
    const ports: (number | undefined)[] = [];
    const origin = await upstream((request, response) => {
      ports.push(request.socket.remotePort);
      if (!hang) response.end('ok');
    });
    const { forwardBuffered } = forwarder();
    await forwardBuffered(call(origin));
    await delay(5);
    hang = true;
    expect(await forwardBuffered(call(origin, { timeoutMs: 50 }))).toMatchObject({ reason: 'timeout' });
    hang = false;
    expect(await forwardBuffered(call(origin))).toMatchObject({ kind: 'response', status: 200 });
    expect(ports[1]).toBe(ports[0]);
    expect(ports[2]).not.toBe(ports[1]);
  });

  it('sends nothing once it has timed out while the connection was being made', async () => {
    let calls = 0;
    const origin = await upstream((_request, response) => {
      calls += 1;
      response.end('ok');
    });
    const guard = createEgressGuard({ allow: parseEgressAllow(undefined), allowLoopback: true });
    const connect = guard.guardedConnect('upstream');
    const slow = createForwarder({
      connect: (target, callback) => setTimeout(() => connect(target, callback), 100),
      limits: { originsMax: 1, callsPerOriginMax: 1, originIdleMs: 1000 },
    });
    cleanups.push(() => slow.destroy());
    expect(await slow.forwardBuffered(call(origin, { timeoutMs: 30 }))).toMatchObject({ reason: 'timeout' });
    // It still counts as in flight, as its connection does.
    expect(await slow.forwardBuffered(call(origin))).toMatchObject({ reason: 'busy' });
    await delay(200);
    expect(calls).toBe(0);
    expect(await slow.forwardBuffered(call(origin))).toMatchObject({ kind: 'response', status: 200 });
  });

  it('never sends a request twice, even if its connection dies', async () => {
    let calls = 0;
    const origin = await upstream((request) => {
      calls += 1;
      request.socket.destroy();
    });
    expect(await forwarder().forwardBuffered(call(origin))).toMatchObject({
      kind: 'failed',
      reason: 'reset',
    });
    await delay(50);
    expect(calls).toBe(1);
  });
});

describe('limits', () => {
  it('refuses a call above the calls in flight to one origin, and serves again after one has ended', async () => {
    const waiting: ServerResponse[] = [];
    const origin = await upstream((_request, response) => waiting.push(response));
    const { forwardBuffered } = forwarder({ callsPerOriginMax: 2 });
    const first = [forwardBuffered(call(origin)), forwardBuffered(call(origin))];
    await expect.poll(() => waiting.length).toBe(2);
    expect(await forwardBuffered(call(origin))).toMatchObject({ kind: 'failed', reason: 'busy' });
    for (const response of waiting.splice(0)) response.end('ok');
    expect(await Promise.all(first)).toMatchObject([{ status: 200 }, { status: 200 }]);
    const next = forwardBuffered(call(origin));
    await expect.poll(() => waiting.length).toBe(1);
    waiting[0]?.end('ok');
    expect(await next).toMatchObject({ status: 200 });
  });

  it('lets go of the origin that is longest unused, and of no busy one', async () => {
    const waiting: ServerResponse[] = [];
    const busy = await upstream((_request, response) => waiting.push(response));
    const closed: string[] = [];
    const idleOrigin = async (name: string) => {
      const server = createServer((_request, response) => response.end(name));
      server.on('connection', (socket: Socket) => socket.on('close', () => closed.push(name)));
      return listen(server);
    };
    const [a, b, c] = [await idleOrigin('a'), await idleOrigin('b'), await idleOrigin('c')];
    const { forwardBuffered } = forwarder({ originsMax: 3 });
    const held = forwardBuffered(call(busy));
    for (const origin of [a, b, a]) await forwardBuffered(call(origin));
    expect(await forwardBuffered(call(c))).toMatchObject({ status: 200 });
    await expect.poll(() => closed).toEqual(['b']);
    const alsoHeld = forwardBuffered(call(busy));
    await expect.poll(() => waiting.length).toBe(2);
    for (const response of waiting) response.end('ok');
    expect(await Promise.all([held, alsoHeld])).toMatchObject([{ status: 200 }, { status: 200 }]);
  });

  it('refuses a new origin when all are busy', async () => {
    const hanging = await upstream(() => undefined);
    const other = await upstream((_request, response) => response.end('ok'));
    const { forwardBuffered } = forwarder({ originsMax: 1 });
    const held = forwardBuffered(call(hanging, { timeoutMs: 200 }));
    await delay(20);
    expect(await forwardBuffered(call(other))).toMatchObject({ kind: 'failed', reason: 'busy' });
    expect(await held).toMatchObject({ reason: 'timeout' });
    expect(await forwardBuffered(call(other))).toMatchObject({ kind: 'response', status: 200 });
  });

  it('closes the connections of an origin without calls', async () => {
    let closed = false;
    const server = createServer((_request, response) => response.end('ok'));
    server.on('connection', (socket: Socket) => socket.on('close', () => (closed = true)));
    const origin = await listen(server);
    const { forwardBuffered } = forwarder({ originIdleMs: 100 });
    await forwardBuffered(call(origin));
    expect(closed).toBe(false);
    await expect.poll(() => closed).toBe(true);
    expect(await forwardBuffered(call(origin))).toMatchObject({ kind: 'response', status: 200 });
  });

  it('close lets calls in flight end and takes no more; destroy cuts them', async () => {
    const waiting: ServerResponse[] = [];
    const origin = await upstream((_request, response) => waiting.push(response));
    const draining = forwarder();
    const held = draining.forwardBuffered(call(origin));
    await expect.poll(() => waiting.length).toBe(1);
    const closed = draining.close();
    expect(await draining.forwardBuffered(call(origin))).toMatchObject({ kind: 'failed', reason: 'busy' });
    waiting[0]?.end('late');
    expect(await held).toMatchObject({ kind: 'response', body: Buffer.from('late') });
    await closed;

    const cut = forwarder();
    const cutCall = cut.forwardBuffered(call(origin));
    await expect.poll(() => waiting.length).toBe(2);
    await cut.destroy();
    expect(await cutCall).toMatchObject({ kind: 'failed', reason: 'reset' });
  });
});

/** An upstream that reads the beginning of what it is sent, stops reading, and resets. */
const resettingInUpload = () =>
  listen(
    createTcpServer((socket) => {
      socket.once('data', () => {
        socket.pause();
        setTimeout(() => socket.resetAndDestroy(), 50);
      });
    }),
  );

/** A gateway that streams every call to `origin`, and keeps what became of it. */
async function gateway(origin: string, parts: Partial<StreamingCall> = {}, made = forwarder()) {
  const outcomes: Promise<StreamingOutcome>[] = [];
  const server = createServer((request, response) => {
    const outcome = made.forwardStreaming({
      origin,
      method: request.method ?? 'GET',
      target: request.url ?? '/',
      headers: ['X-From', 'gateway'],
      request,
      response,
      headTimeoutMs: 2000,
      idleTimeoutMs: 2000,
      onHead: ({ headers }) =>
        headers.filter(
          (_part, index) =>
            !/^(content-length|connection|keep-alive|transfer-encoding)$/i.test(
              headers[index - (index % 2)] ?? '',
            ),
        ),
      ...parts,
    });
    outcomes.push(outcome);
    void outcome.then((result) => {
      if (response.headersSent) return undefined;
      return response.writeHead(502).end(`${result.kind} ${'reason' in result ? result.reason : ''}`);
    });
  });
  return { origin: await listen(server), outcome: () => outcomes[0] };
}

async function ask(origin: string, method = 'GET', target = '/') {
  const request = httpRequest(`${origin}${target}`, { method, agent: false });
  request.on('error', () => undefined);
  return request;
}

async function answer(request: ReturnType<typeof httpRequest>): Promise<IncomingMessage> {
  const [response]: IncomingMessage[] = await once(request, 'response');
  if (response === undefined) throw new Error('no response');
  return response;
}

describe('forwardStreaming', () => {
  it('passes status, headers with duplicates, length and body', async () => {
    const origin = await upstream((_request, response) => {
      response.writeHead(203, ['Vary', 'a', 'Vary', 'b', 'Content-Length', '5']);
      response.end('hello');
    });
    const proxy = await gateway(origin);
    const response = await answer((await ask(proxy.origin)).end());
    expect(response.statusCode).toBe(203);
    expect(response.rawHeaders).toEqual(
      expect.arrayContaining(['Vary', 'a', 'Vary', 'b', 'content-length', '5']),
    );
    expect(response.headers.vary).toBe('a, b');
    expect(await readBody(response)).toBe('hello');
    expect(await proxy.outcome()).toEqual({ kind: 'response', status: 203, bodyBytes: 5 });
  });

  it.each([
    ['HEAD', 200],
    ['GET', 204],
    ['GET', 304],
  ])('passes %s %d, which has no body', async (method, status) => {
    const origin = await upstream((_request, response) => response.writeHead(status, { ETag: '"1"' }).end());
    const proxy = await gateway(origin);
    const response = await answer((await ask(proxy.origin, method)).end());
    expect([response.statusCode, response.headers.etag, await readBody(response)]).toEqual([
      status,
      '"1"',
      '',
    ]);
    expect(await proxy.outcome()).toMatchObject({ kind: 'response', status, bodyBytes: 0 });
  });

  it('leaves out informational answers', async () => {
    const origin = await rawUpstream(
      'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello',
    );
    const proxy = await gateway(origin);
    const response = await answer((await ask(proxy.origin)).end());
    expect([response.statusCode, response.headers.link, await readBody(response)]).toEqual([
      200,
      undefined,
      'hello',
    ]);
  });

  it('has no limit for a whole body whose parts keep coming', async () => {
    const origin = await upstream(async (_request, response) => {
      for (let part = 0; part < 8; part += 1) {
        response.write('.');
        await delay(50);
      }
      response.end();
    });
    const proxy = await gateway(origin, { idleTimeoutMs: 200 });
    const response = await answer((await ask(proxy.origin)).end());
    expect(await readBody(response)).toBe('........');
  });

  it('passes server-sent events as they come, the head before the first of them', async () => {
    const steps: string[] = [];
    let upstreamResponse: ServerResponse | undefined;
    const origin = await upstream((_request, response) => {
      upstreamResponse = response;
      response.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders();
    });
    const proxy = await gateway(origin);
    const response = await answer((await ask(proxy.origin)).end());
    steps.push('head');
    for (const event of ['data: 1\n\n', 'data: 2\n\n']) {
      upstreamResponse?.write(event);
      const [chunk]: Buffer[] = await once(response, 'data');
      steps.push(String(chunk));
    }
    upstreamResponse?.end();
    await once(response, 'end');
    expect(steps).toEqual(['head', 'data: 1\n\n', 'data: 2\n\n']);
    expect(await proxy.outcome()).toMatchObject({ kind: 'response', bodyBytes: 18 });
  });

  it.each([
    ['with its length', { 'Content-Length': '300000' }, 'content-length'],
    ['in chunks', { 'Transfer-Encoding': 'chunked' }, 'transfer-encoding'],
  ])('streams the upload %s', async (_name, headers, kept) => {
    const origin = await upstream(async (request, response) => {
      const body = await readBody(request);
      response.end(JSON.stringify([request.headers[kept], request.headers['x-from'], body.length]));
    });
    const proxy = await gateway(origin);
    const request = httpRequest(proxy.origin, { method: 'POST', headers, agent: false });
    for (let part = 0; part < 3; part += 1) request.write('x'.repeat(100_000));
    const response = await answer(request.end());
    expect(JSON.parse(await readBody(response))).toEqual([Object.values(headers)[0], 'gateway', 300_000]);
  });

  it('starts to upload before the client has sent it all', async () => {
    let received = '';
    const origin = await upstream((request, response) => {
      request.on('data', (chunk: Buffer) => (received += chunk.toString()));
      request.on('end', () => response.end('done'));
    });
    const proxy = await gateway(origin);
    const request = await ask(proxy.origin, 'POST');
    request.write('first');
    await expect.poll(() => received).toBe('first');
    const response = answer(request.end('last'));
    expect(await readBody(await response)).toBe('done');
    expect(received).toBe('firstlast');
  });

  it('holds a fast upstream back for a slow client', async () => {
    const size = 64 * 1024 * 1024;
    let sent = 0;
    const origin = await upstream((_request, response) => {
      const block = Buffer.alloc(64 * 1024);
      const send = () => {
        let isTaken = true;
        while (isTaken && sent < size) {
          sent += block.length;
          isTaken = response.write(block);
        }
        if (isTaken) response.end();
        else response.once('drain', send);
      };
      send();
    });
    const proxy = await gateway(origin);
    const response = await answer((await ask(proxy.origin)).end());
    await delay(300);
    const held = sent;
    expect(held).toBeLessThan(size / 2);
    let bytes = 0;
    response.on('data', (chunk: Buffer) => (bytes += chunk.length));
    await once(response, 'end');
    expect(bytes).toBe(size);
    expect(await proxy.outcome()).toMatchObject({ kind: 'response', bodyBytes: size });
  });

  it.each(['before the head', 'in the body', 'in the upload'])(
    'aborts the upstream when the client leaves %s',
    async (when) => {
      let reached = false;
      let aborted = false;
      const origin = await upstream((request, response) => {
        reached = true;
        request.resume().on('error', () => undefined);
        response.on('close', () => (aborted = true));
        if (when === 'in the body') response.write('begun');
      });
      const proxy = await gateway(origin);
      const request = await ask(proxy.origin, 'POST');
      if (when === 'in the upload') request.write('begun');
      else request.end();
      if (when === 'in the body') await answer(request);
      await expect.poll(() => reached).toBe(true);
      expect(aborted).toBe(false);
      request.destroy();
      expect(await proxy.outcome()).toEqual({ kind: 'client_left' });
      await expect.poll(() => aborted).toBe(true);
    },
  );

  it('sends nothing for a client that has left already', async () => {
    let calls = 0;
    const origin = await upstream((_request, response) => {
      calls += 1;
      response.end('ok');
    });
    const made = forwarder();
    const outcome = new Promise<StreamingOutcome>((resolve, reject) => {
      const server = createServer((request, response) => {
        const parts = { origin, method: 'GET', target: '/', headers: [], request, response };
        response.on('close', () => {
          const limits = { headTimeoutMs: 500, idleTimeoutMs: 500, onHead: () => [] };
          made.forwardStreaming({ ...parts, ...limits }).then(resolve, reject);
        });
        request.socket.destroy();
      });
      void listen(server)
        .then(ask)
        .then((request) => request.end());
    });
    expect(await outcome).toEqual({ kind: 'client_left' });
    expect(calls).toBe(0);
  });

  it.each([
    ['took', async () => 'http://10.0.0.1', 'failed refused_address'],
    ['took whole', resettingInUpload, 'failed reset'],
  ])(
    'keeps the client\u2019s connection usable after an upload that no upstream %s',
    async (_name, make, body) => {
      const proxy = await gateway(await make());
      const agent = new Agent({ keepAlive: true, maxSockets: 1 });
      cleanups.push(async () => agent.destroy());
      const ports: (number | undefined)[] = [];
      for (let attempt = 0; attempt < 3; attempt += 1) {
        const request = httpRequest(proxy.origin, { method: 'POST', agent });
        request.end('x'.repeat(10_000_000));
        const response = await answer(request);
        ports.push(request.socket?.localPort);
        expect([response.statusCode, await readBody(response)]).toEqual([502, body]);
        await delay(5);
      }
      expect(new Set(ports).size).toBe(1);
    },
  );

  it('leaves the answer to the caller when the head is declined', async () => {
    let aborted = false;
    const origin = await upstream((request, response) => {
      request.resume().on('error', () => undefined);
      response.on('close', () => (aborted = true));
      response.writeHead(503).write('never mind');
    });
    const proxy = await gateway(origin, { onHead: ({ status }) => (status < 500 ? [] : null) });
    const request = await ask(proxy.origin, 'POST');
    request.end('x'.repeat(3_000_000));
    const response = await answer(request);
    expect([response.statusCode, await readBody(response)]).toEqual([502, 'declined ']);
    expect(await proxy.outcome()).toEqual({ kind: 'declined', status: 503 });
    await expect.poll(() => aborted).toBe(true);
  });

  it('rejects with what onHead throws', async () => {
    const origin = await upstream((_request, response) => response.end('ok'));
    const made = forwarder();
    const server = createServer((request, response) => {
      const parts = {
        origin,
        method: 'GET',
        target: '/',
        headers: [],
        request,
        response,
        headTimeoutMs: 1000,
        idleTimeoutMs: 1000,
      };
      const outcome = made.forwardStreaming({
        ...parts,
        onHead: () => {
          throw new Error('our fault');
        },
      });
      outcome.catch((error: Error) => response.writeHead(500).end(error.message));
    });
    const response = await answer((await ask(await listen(server))).end());
    expect(await readBody(response)).toBe('our fault');
  });

  it.each([
    ['connect', async () => 'http://127.0.0.1:1', 'failed connect'],
    ['timeout', () => upstream(() => undefined), 'failed timeout'],
    ['reset', () => rawUpstream('', 'ends'), 'failed reset'],
    ['invalid_response', () => rawUpstream('nonsense\r\n\r\n'), 'failed invalid_response'],
    ['refused_address', async () => 'http://10.0.0.1', 'failed refused_address'],
  ])('leaves the answer to the caller on %s before the head, upload or not', async (reason, make, body) => {
    for (const upload of ['', 'x'.repeat(3_000_000)]) {
      const proxy = await gateway(await make(), { headTimeoutMs: 200 });
      const request = await ask(proxy.origin, 'POST');
      request.end(upload);
      const response = await answer(request);
      expect([response.statusCode, await readBody(response)]).toEqual([502, body]);
      expect(await proxy.outcome()).toMatchObject({ kind: 'failed', headSent: false, reason });
    }
  });

  it.each([
    [
      'reset',
      () => rawUpstream('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n', 'resets'),
    ],
    ['reset', () => rawUpstream('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe', 'ends')],
    ['timeout', () => rawUpstream('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n')],
  ])('cuts the client on %s in the body, so that it knows', async (reason, make) => {
    const proxy = await gateway(await make(), { idleTimeoutMs: 150 });
    const response = await answer((await ask(proxy.origin)).end());
    expect(response.statusCode).toBe(200);
    await expect(readBody(response)).rejects.toThrow('aborted');
    expect(await proxy.outcome()).toMatchObject({ kind: 'failed', headSent: true, reason });
  });

  it('lets go of a client that stops reading', async () => {
    const origin = await upstream((_request, response) => response.end(Buffer.alloc(32 * 1024 * 1024)));
    const proxy = await gateway(origin, { idleTimeoutMs: 150 });
    const response = await answer((await ask(proxy.origin)).end());
    response.on('error', () => undefined);
    expect(await proxy.outcome()).toMatchObject({ kind: 'failed', headSent: true, reason: 'timeout' });
  });
});
