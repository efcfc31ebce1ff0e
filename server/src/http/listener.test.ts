import { once } from 'node:events';
import { Agent, get, type RequestListener } from 'node:http';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { findFreePort } from '../../test/helpers/instance.ts';
import { StartupError } from '../kernel/startup-error.ts';
import { openListener } from './listener.ts';

const hosts = ['127.0.0.1', '::1'];
const kept = new Agent({ keepAlive: true });

const open = (onRequest: RequestListener, port = 0) =>
  openListener({ hosts, port, portVariable: 'PORT', onRequest });

async function ask(port: number): Promise<{ connection: string | undefined; body: string }> {
  const [response] = await once(get({ host: '127.0.0.1', port, agent: kept }), 'response');
  return { connection: response.headers.connection, body: await text(response) };
}

describe('openListener', () => {
  it('answers on every host, at one port', async () => {
    const listener = await open((_request, response) => response.end('here'));
    const answers = await Promise.all(
      ['127.0.0.1', '[::1]'].map((host) =>
        fetch(`http://${host}:${listener.port}`).then((answer) => answer.text()),
      ),
    );
    expect(answers).toEqual(['here', 'here']);
    await listener.close(0);
  });

  it('names the setting that moves a port which is taken, and keeps no other host’s socket', async () => {
    const port = await findFreePort();
    const other = createServer().listen(port, '::1');
    await once(other, 'listening');
    const failure: unknown = await open(() => undefined, port).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(StartupError);
    expect(String(failure)).toMatch(new RegExp(`port ${port} on ::1 is in use.*set PORT`));
    other.close();
    await once(other, 'close');
    await (await open(() => undefined, port)).close(0);
  });
});

describe('closing', () => {
  it('waits for an answer that is under way, tells its client to close, and does not wait for the connection', async () => {
    const reached = Promise.withResolvers<() => void>();
    const listener = await open((_request, response) => reached.resolve(() => response.end('late')));
    const answer = ask(listener.port);
    const end = await reached.promise;
    const started = Date.now();
    const closed = listener.close(20);
    setTimeout(end, 300);
    expect(await answer).toEqual({ connection: 'close', body: 'late' });
    await closed;
    expect(Date.now() - started).toBeGreaterThanOrEqual(290);
    expect(Date.now() - started).toBeLessThan(2_000);
  });

  it('does not wait for a connection whose answer’s head had been sent as one to keep', async () => {
    const reached = Promise.withResolvers<() => void>();
    const listener = await open((_request, response) => {
      response.writeHead(200, { 'content-length': '4' }).flushHeaders();
      reached.resolve(() => response.end('late'));
    });
    const answer = ask(listener.port);
    const end = await reached.promise;
    const started = Date.now();
    const closed = listener.close(20);
    setTimeout(end, 300);
    expect(await answer).toMatchObject({ body: 'late' });
    await closed;
    expect(Date.now() - started).toBeLessThan(2_000);
  });

  it('cuts what is still under way at the deadline', async () => {
    const listener = await open(() => undefined);
    const answer = ask(listener.port).catch((error: NodeJS.ErrnoException) => error.code);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await listener.close(0.2);
    expect(await answer).toBe('ECONNRESET');
  });
});
