import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { sunTimes } from './sun-times.ts';

export interface DemoUpstream {
  url: string;
  close(): Promise<void>;
}

const places = {
  greenwich: { latitude: 51.48, longitude: 0 },
  lagos: { latitude: 6.45, longitude: 3.39 },
  quito: { latitude: -0.18, longitude: -78.47 },
  tromso: { latitude: 69.65, longitude: 18.96 },
};

/**
 * The API that the demo sells: sunrise and sunset. It knows nothing of agents and payments, like any API that somebody
 * puts behind the gateway. `GET /v1/places` lists names, `GET /v1/sun?place=…&date=…` computes.
 */
export async function startDemoUpstream(now: () => Date): Promise<DemoUpstream> {
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://upstream');
    if (url.pathname === '/v1/places') return send(response, 200, { places });
    if (url.pathname === '/v1/sun') return answerSun(response, url.searchParams, now());
    send(response, 404, { error: 'no such path' });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function answerSun(response: ServerResponse, query: URLSearchParams, now: Date): void {
  const name = query.get('place') ?? 'greenwich';
  const place = Object.entries(places).find(([known]) => known === name)?.[1];
  const day = new Date(query.get('date') ?? now.toISOString().slice(0, 10));
  if (!place) return send(response, 404, { error: `no place "${name}"; see /places` });
  if (Number.isNaN(day.getTime())) return send(response, 400, { error: 'date must be like 2026-06-21' });
  send(response, 200, {
    place: name,
    date: day.toISOString().slice(0, 10),
    ...sunTimes(place.latitude, place.longitude, day),
  });
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`);
}
