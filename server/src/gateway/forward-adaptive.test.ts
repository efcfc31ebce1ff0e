import { once } from 'node:events';
import { createServer as createTcpServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { describe, expect, it } from 'vitest';

import { createEgressGuard, parseEgressAllow } from '../kernel/egress.ts';
import type { AdaptiveCall } from './forward-adaptive.ts';
import { call, cleanups, forwarder, listen, rawUpstream, readBody, upstream } from './forward.fixture.ts';
import { createForwarder } from './forward.ts';

describe('forwardAdaptive', () => {
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
    const outcome = await forwarder().forwardAdaptive(
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
    const outcome = await forwarder().forwardAdaptive(call(await rawUpstream(bytes)));
    expect(outcome).toMatchObject({ kind: 'response', status: 200, body: Buffer.from(body) });
    expect(outcome).not.toHaveProperty('headers', expect.arrayContaining(['Link']));
  });

  it('reads a body that ends with the connection', async () => {
    const origin = await rawUpstream('HTTP/1.1 200 OK\r\n\r\nhello', 'ends');
    expect(await forwarder().forwardAdaptive(call(origin))).toMatchObject({
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
    const outcome = await forwarder().forwardAdaptive(call(origin, { method }));
    expect(outcome).toMatchObject({ kind: 'response', status, body: Buffer.alloc(0) });
    expect(outcome).toHaveProperty('headers', expect.arrayContaining(['ETag', '"1"']));
  });

  it('does not follow a redirect', async () => {
    let calls = 0;
    const origin = await upstream((_request, response) => {
      calls += 1;
      response.writeHead(302, { Location: '/elsewhere' }).end();
    });
    expect(await forwarder().forwardAdaptive(call(origin))).toMatchObject({ kind: 'response', status: 302 });
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
    const outcome = await forwarder().forwardAdaptive(call(origin, { timeoutMs: 100 }));
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
    expect(await forwarder().forwardAdaptive(call(origin, { timeoutMs: 150 }))).toMatchObject({
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
    ['in a body that ends with the connection', 'HTTP/1.1 200 OK\r\n\r\nhe', 'resets', 'reset'],
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
    const outcome = await forwarder().forwardAdaptive(call(await rawUpstream(bytes, then)));
    expect(outcome).toEqual({ kind: 'failed', reason, detail: expect.stringMatching(/./) });
  });

  it('a refused connection is a value', async () => {
    const server = createTcpServer();
    const origin = await listen(server);
    server.close();
    await once(server, 'close');
    cleanups.pop();
    expect(await forwarder().forwardAdaptive(call(origin))).toMatchObject({
      kind: 'failed',
      reason: 'connect',
      detail: expect.stringContaining('ECONNREFUSED'),
    });
  });

  it.each([
    ['a declared length', 'HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n'],
    ['what arrives', `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n${'x'.repeat(1001)}\r\n`],
  ])(
    'stops a body above the limit by %s, before its end, where no stream is wanted',
    async (_name, bytes) => {
      const parts: Partial<AdaptiveCall> = { wants: () => 'whole' };
      expect(await forwarder().forwardAdaptive(call(await rawUpstream(bytes), parts))).toMatchObject({
        kind: 'failed',
        reason: 'too_large',
      });
    },
  );

  it('takes a body of exactly the limit', async () => {
    const origin = await upstream((_request, response) => response.end('x'.repeat(1000)));
    expect(await forwarder().forwardAdaptive(call(origin))).toMatchObject({
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
    const outcome = await forwarder({}, false).forwardAdaptive(call(origin.replace('PORT', port)));
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
    await expect(forwarder().forwardAdaptive(call(origin, parts))).rejects.toThrow(/invalid|origin/i);
  });

  it('uses a connection again after an answer, and not after a time-out', async () => {
    let hang = false;
    const ports: (number | undefined)[] = [];
    const origin = await upstream((request, response) => {
      ports.push(request.socket.remotePort);
      if (!hang) response.end('ok');
    });
    const { forwardAdaptive } = forwarder();
    await forwardAdaptive(call(origin));
    await delay(5);
    hang = true;
    expect(await forwardAdaptive(call(origin, { timeoutMs: 50 }))).toMatchObject({ reason: 'timeout' });
    hang = false;
    expect(await forwardAdaptive(call(origin))).toMatchObject({ kind: 'response', status: 200 });
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
    expect(await slow.forwardAdaptive(call(origin, { timeoutMs: 30 }))).toMatchObject({ reason: 'timeout' });
    // It still counts as in flight, as its connection does.
    expect(await slow.forwardAdaptive(call(origin))).toMatchObject({ reason: 'busy' });
    await delay(200);
    expect(calls).toBe(0);
    expect(await slow.forwardAdaptive(call(origin))).toMatchObject({ kind: 'response', status: 200 });
  });

  it('never sends a request twice, even if its connection dies', async () => {
    let calls = 0;
    const origin = await upstream((request) => {
      calls += 1;
      request.socket.destroy();
    });
    expect(await forwarder().forwardAdaptive(call(origin))).toMatchObject({
      kind: 'failed',
      reason: 'reset',
    });
    await delay(50);
    expect(calls).toBe(1);
  });
});
