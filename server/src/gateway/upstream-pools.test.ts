import { createServer } from 'node:http';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { describe, expect, it } from 'vitest';

import { call, forwarder, listen, upstream } from './forward.fixture.ts';

describe('limits', () => {
  it('refuses a call above the calls in flight to one origin, and serves again after one has ended', async () => {
    const waiting: ServerResponse[] = [];
    const origin = await upstream((_request, response) => waiting.push(response));
    const { forwardAdaptive } = forwarder({ callsPerOriginMax: 2 });
    const first = [forwardAdaptive(call(origin)), forwardAdaptive(call(origin))];
    await expect.poll(() => waiting.length).toBe(2);
    expect(await forwardAdaptive(call(origin))).toMatchObject({ kind: 'failed', reason: 'busy' });
    for (const response of waiting.splice(0)) response.end('ok');
    expect(await Promise.all(first)).toMatchObject([{ status: 200 }, { status: 200 }]);
    const next = forwardAdaptive(call(origin));
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
    const { forwardAdaptive } = forwarder({ originsMax: 3 });
    const held = forwardAdaptive(call(busy));
    for (const origin of [a, b, a]) await forwardAdaptive(call(origin));
    expect(await forwardAdaptive(call(c))).toMatchObject({ status: 200 });
    await expect.poll(() => closed).toEqual(['b']);
    const alsoHeld = forwardAdaptive(call(busy));
    await expect.poll(() => waiting.length).toBe(2);
    for (const response of waiting) response.end('ok');
    expect(await Promise.all([held, alsoHeld])).toMatchObject([{ status: 200 }, { status: 200 }]);
  });

  it('refuses a new origin when all are busy', async () => {
    const hanging = await upstream(() => undefined);
    const other = await upstream((_request, response) => response.end('ok'));
    const { forwardAdaptive } = forwarder({ originsMax: 1 });
    const held = forwardAdaptive(call(hanging, { timeoutMs: 200 }));
    await delay(20);
    expect(await forwardAdaptive(call(other))).toMatchObject({ kind: 'failed', reason: 'busy' });
    expect(await held).toMatchObject({ reason: 'timeout' });
    expect(await forwardAdaptive(call(other))).toMatchObject({ kind: 'response', status: 200 });
  });

  it('closes the connections of an origin without calls', async () => {
    let closed = false;
    const server = createServer((_request, response) => response.end('ok'));
    server.on('connection', (socket: Socket) => socket.on('close', () => (closed = true)));
    const origin = await listen(server);
    const { forwardAdaptive } = forwarder({ originIdleMs: 100 });
    await forwardAdaptive(call(origin));
    expect(closed).toBe(false);
    await expect.poll(() => closed).toBe(true);
    expect(await forwardAdaptive(call(origin))).toMatchObject({ kind: 'response', status: 200 });
  });

  it('close lets calls in flight end and takes no more; destroy cuts them', async () => {
    const waiting: ServerResponse[] = [];
    const origin = await upstream((_request, response) => waiting.push(response));
    const draining = forwarder();
    const held = draining.forwardAdaptive(call(origin));
    await expect.poll(() => waiting.length).toBe(1);
    const closed = draining.close();
    expect(await draining.forwardAdaptive(call(origin))).toMatchObject({ kind: 'failed', reason: 'busy' });
    waiting[0]?.end('late');
    expect(await held).toMatchObject({ kind: 'response', body: Buffer.from('late') });
    await closed;

    const cut = forwarder();
    const cutCall = cut.forwardAdaptive(call(origin));
    await expect.poll(() => waiting.length).toBe(2);
    await cut.destroy();
    expect(await cutCall).toMatchObject({ kind: 'failed', reason: 'reset' });
  });
});
