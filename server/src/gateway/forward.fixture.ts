import { once } from 'node:events';
import { createServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, RequestListener } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import type { Server, Socket } from 'node:net';

import { afterEach } from 'vitest';

import { createEgressGuard, parseEgressAllow } from '../kernel/egress.ts';
import { createAnswerMemory } from './answer-memory.ts';
import type { AdaptiveCall } from './forward-adaptive.ts';
import { createForwarder, type Forwarder } from './forward.ts';
import type { ForwardLimits } from './upstream-pools.ts';

export const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

export async function listen(server: Server): Promise<string> {
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

export const upstream = (answerer: (...exchange: Parameters<RequestListener>) => unknown) =>
  listen(createServer((request, response) => void answerer(request, response)));

/** An upstream that says these bytes to whatever it is asked, and then `hangs`, `ends` or `resets`. */
export const rawUpstream = (bytes: string, then: 'hangs' | 'ends' | 'resets' = 'hangs') =>
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

export function forwarder(limits: Partial<ForwardLimits> = {}, allowLoopback = true): Forwarder {
  const guard = createEgressGuard({ allow: parseEgressAllow(undefined), allowLoopback });
  const made = createForwarder({
    connect: guard.guardedConnect('upstream'),
    limits: { originsMax: 8, callsPerOriginMax: 16, originIdleMs: 60_000, ...limits },
  });
  cleanups.push(() => made.destroy());
  return made;
}

export function call(origin: string, parts: Partial<AdaptiveCall> = {}): AdaptiveCall {
  return {
    origin,
    method: 'GET',
    target: '/',
    headers: [],
    body: null,
    timeoutMs: 2000,
    bufferBytesMax: 1000,
    idleTimeoutMs: 2000,
    memory: createAnswerMemory(1024 * 1024),
    held: { bytes: 0 },
    wants: () => 'stream',
    ...parts,
  };
}

export async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString();
}

export async function ask(origin: string, method = 'GET', target = '/') {
  const request = httpRequest(`${origin}${target}`, { method, agent: false });
  request.on('error', () => undefined);
  return request;
}

export async function answer(request: ReturnType<typeof httpRequest>): Promise<IncomingMessage> {
  const [response]: IncomingMessage[] = await once(request, 'response');
  if (response === undefined) throw new Error('no response');
  return response;
}
