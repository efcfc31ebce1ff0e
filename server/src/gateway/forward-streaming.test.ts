import { once } from 'node:events';
import { Agent, createServer, request as httpRequest } from 'node:http';
import type { ServerResponse } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { describe, expect, it } from 'vitest';

import type { StreamingCall, StreamingOutcome } from './forward-streaming.ts';
import {
  answer,
  ask,
  cleanups,
  forwarder,
  listen,
  rawUpstream,
  readBody,
  upstream,
} from './forward.fixture.ts';

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
