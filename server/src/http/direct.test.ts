import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { Type } from 'typebox';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openTestDatabase, testBox } from '../../test/helpers/database.ts';
import { createSharedCounts } from '../db/index.ts';
import { systemClock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { answerDirectly } from './direct.ts';
import { createJsonReader } from './json-body.ts';
import { defineRoute, type Route } from './route.ts';
import { createControlServer } from './server.ts';

const form = {
  method: 'POST',
  auth: [],
  scopes: [],
  limit: 'token',
  status: 200,
  form: true,
  unknownKeys: 'ignored',
  summary: 'For tests',
  errors: [],
} as const;

const route: Route = defineRoute({
  ...form,
  id: 'oauth.echo',
  path: '/oauth/echo',
  direct: true,
  schema: {
    body: Type.Object({
      do: Type.Optional(Type.String({ maxLength: 20 })),
      list: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String())])),
    }),
    response: Type.Object({}, { additionalProperties: true }),
  },
  handler: async ({ body, principal, params, query, request: sent, context }) => {
    sent.setHeader('dpop-nonce', 'n');
    if (body.do === 'refuse')
      throw new AppError('invalid_client', 'No such client', { headers: { 'www-authenticate': 'Basic' } });
    if (body.do === 'wait') throw new AppError('rate_limited', 'Wait', { retryAfterSeconds: 7 });
    if (body.do === 'break') throw new Error('hunter2');
    const { actor, scope, clientAddress, idempotency } = context;
    return { body, principal, params, query, method: sent.method, actor, scope, clientAddress, idempotency };
  },
});

const lines: string[] = [];
const log = new Writable({
  write(chunk: Buffer, _encoding, done) {
    lines.push(chunk.toString());
    done();
  },
});
const { db } = await openTestDatabase();
let server: Server;
/** How many requests were given to Fastify. */
let passedOn = 0;
const opened: (() => Promise<void>)[] = [];

/** A server that believes these proxies. */
async function open(trustedProxies: readonly string[]): Promise<Server> {
  const options = {
    trustedProxies,
    routes: [route],
    authenticators: {
      findApiKey: async () => undefined,
      findAgent: async () => undefined,
      isOperatorKey: () => false,
    },
    counts: createSharedCounts({ db, clock: systemClock }),
    db,
    clock: systemClock,
    box: testBox,
    logger: pino({ level: 'info' }, log),
    findGatewayUrl: async () => undefined,
  };
  const app = await createControlServer(options);
  await app.ready();
  const listening = createServer(
    answerDirectly({ ...options, readJson: createJsonReader(app) }, (incoming, response) => {
      passedOn += 1;
      app.routing(incoming, response);
    }),
  );
  await once(listening.listen(0, '127.0.0.1'), 'listening');
  opened.push(async () => {
    listening.close();
    await app.close();
  });
  return listening;
}

beforeAll(async () => {
  server = await open(['127.0.0.1']);
});
beforeEach(() => {
  lines.splice(0);
  passedOn = 0;
});
afterAll(() => Promise.all(opened.map((close) => close())));

interface Sent {
  body?: string;
  headers?: Record<string, string | string[]>;
  path?: string;
  method?: string;
  to?: Server;
}

async function send({ body = '', headers = {}, path = '/oauth/echo', method = 'POST', to = server }: Sent) {
  const { port } = to.address() as AddressInfo;
  const sent = request({
    port,
    host: '127.0.0.1',
    path,
    method,
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
  });
  sent.end(body);
  const [answer] = (await once(sent, 'response')) as [
    NodeJS.ReadableStream & { statusCode: number; headers: IncomingHttpHeaders },
  ];
  return { status: answer.statusCode, headers: answer.headers, text: await text(answer) };
}

/**
 * Without what differs from one request to the next, and what becomes of the connection: Fastify closes it behind a body that it can't
 * parse, though it has been read whole.
 */
function comparable({ status, headers, text: body }: Awaited<ReturnType<typeof send>>) {
  const { date: _date, connection: _1, 'keep-alive': _2, 'x-request-id': requestId, ...others } = headers;
  expect(requestId).toMatch(/^req_[0-9a-f-]{36}$/);
  return { status, headers: others, body };
}

function comparableLine(line: string | undefined): unknown {
  const { time: _time, durationMs, reqId, ...others } = JSON.parse(line ?? '') as Record<string, unknown>;
  expect([typeof durationMs, typeof reqId]).toEqual(['number', 'string']);
  return others;
}

describe('a plain request to a direct route', () => {
  it.each([
    { of: 'a form', body: 'do=it&other=x' },
    { of: 'no body', body: '' },
    { of: 'a field that is repeated', body: 'list=a&list=b' },
    { of: 'text beyond ASCII', body: 'do=%C3%A9t%C3%A9&list=été' },
    { of: 'a field that an object has anyway', body: '__proto__=x&constructor=y' },
    { of: 'a field that is too long', body: `do=${'x'.repeat(21)}` },
    { of: 'a repeated field that may not be', body: 'do=a&do=b' },
    { of: 'what can’t be stored', body: 'do=a%00b' },
    { of: 'a refusal with a header', body: 'do=refuse' },
    { of: 'a refusal with a time to wait', body: 'do=wait' },
    { of: 'a fault of ours', body: 'do=break' },
    {
      of: 'a form that names its characters',
      body: 'do=it',
      headers: { 'content-type': 'application/x-www-form-urlencoded; charset=UTF-8' },
    },
    ...[
      { of: 'JSON', body: '{"do":"it","list":["a","é"],"other":{}}' },
      { of: 'JSON of nothing', body: '' },
      { of: 'JSON that is none', body: '{"do":' },
      { of: 'JSON with a byte order mark', body: '\uFEFF{"do":"it"}' },
      { of: 'JSON with a poisoned prototype', body: '{"__proto__":{"do":"it"}}' },
      { of: 'JSON with a poisoned constructor', body: '{"constructor":{"prototype":{"do":"it"}}}' },
      { of: 'JSON that is a list', body: '["do"]' },
      { of: 'JSON that is null', body: 'null' },
      { of: 'JSON that is a text', body: '"do"' },
      { of: 'JSON with a number for a text', body: '{"do":1}' },
      { of: 'JSON that can’t be stored', body: '{"do":"\\u0000","list":"\\ud800"}' },
      { of: 'JSON that is nested deeply', body: `{"list":${'['.repeat(500)}${']'.repeat(500)}}` },
      { of: 'JSON whose refusal has a header', body: '{"do":"refuse"}' },
    ].map((sent) => ({ ...sent, headers: { 'content-type': 'application/json' } })),
    {
      of: 'JSON that names its characters',
      body: '{"do":"é"}',
      headers: { 'content-type': 'application/JSON; charset=utf-8' },
    },
    { of: 'an address of a proxy’s', body: 'do=it', headers: { 'x-forwarded-for': '203.0.113.9' } },
  ])('with $of is answered and logged as by Fastify', async (sent) => {
    const direct = await send(sent);
    expect(passedOn).toBe(0);
    // The same path with a query is none that is looked for directly.
    const other = await send({ ...sent, path: '/oauth/echo?' });
    expect(passedOn).toBe(1);
    expect(comparable(direct)).toEqual(comparable(other));
    await expect.poll(() => lines.filter((line) => line.includes('"msg":"request"')).length).toBe(2);
    const [first, second] = lines.filter((line) => line.includes('"msg":"request"'));
    expect(comparableLine(first)).toEqual(comparableLine(second));
    expect(first).toContain(String(direct.headers['x-request-id']));
  });

  it('that fails here shows the request’s id alone, and the log has the rest under that id', async () => {
    const answer = await send({ body: 'do=break' });
    expect(answer.status).toBe(500);
    expect(answer.text).not.toContain('hunter2');
    expect(lines.find((line) => line.includes('hunter2'))).toContain(String(answer.headers['x-request-id']));
  });
});

describe('any other request', () => {
  it.each<Sent & { of: string; status: number }>([
    {
      of: 'in JSON of other characters',
      body: '{}',
      headers: { 'content-type': 'application/json; charset=latin1' },
      status: 200,
    },
    { of: 'under a prefix', path: '/v1/oauth/echo', status: 200 },
    { of: 'with an Idempotency-Key in no form', headers: { 'idempotency-key': 'ä' }, status: 400 },
    { of: 'of unknown length', headers: { 'transfer-encoding': 'chunked' }, status: 200 },
    { of: 'beyond 1 MiB', body: `do=${'x'.repeat(1024 * 1024)}`, status: 413 },
    { of: 'of another method', method: 'GET', status: 404 },
    { of: 'for another route', path: '/oauth/nothing', status: 404 },
    { of: 'in another type', headers: { 'content-type': 'text/plain' }, body: 'x', status: 415 },
  ])('$of is given to Fastify', async (sent) => {
    expect((await send(sent)).status).toBe(sent.status);
    expect(passedOn).toBe(1);
  });
});

describe('the address of whom a proxy forwards', () => {
  const forwarded: (string | string[] | undefined)[] = [
    undefined,
    '',
    ' , ',
    '203.0.113.9',
    '198.51.100.7, 203.0.113.9',
    '203.0.113.9, 10.0.0.7',
    '203.0.113.9,10.0.0.7 , 127.0.0.1',
    '10.0.0.7',
    '10.0.0.7, 10.0.0.8',
    'garbage',
    'garbage, 10.0.0.7',
    '203.0.113.9, garbage, 10.0.0.7',
    'unknown, 203.0.113.9',
    '203.0.113.9:4711',
    '[2001:db8::1]:443',
    '2001:db8::1',
    '::ffff:10.0.0.7',
    '203.0.113.9, ::ffff:10.0.0.7',
    '203.0.113.9, fd00::7',
    ['203.0.113.9', '10.0.0.7'],
    Array.from({ length: 100 }, (_, index) => `10.0.0.${index}`).join(', '),
  ];
  it.each([
    { trusted: [] },
    { trusted: ['127.0.0.1'] },
    { trusted: ['127.0.0.0/8', '10.0.0.0/8'] },
    { trusted: ['loopback', 'uniquelocal'] },
    { trusted: ['::1', '10.0.0.1'] },
  ])('is the one that Fastify finds, trusting $trusted', async ({ trusted }) => {
    const to = await open(trusted);
    const seen: unknown[] = [];
    for (const value of forwarded) {
      const headers = value === undefined ? {} : { 'x-forwarded-for': value };
      passedOn = 0;
      const direct = JSON.parse((await send({ to, headers })).text) as { clientAddress: unknown };
      expect(passedOn).toBe(0);
      const other = JSON.parse((await send({ to, headers, path: '/oauth/echo?' })).text) as typeof direct;
      expect(passedOn).toBe(1);
      expect(direct.clientAddress, String(value)).toBe(other.clientAddress);
      seen.push(direct.clientAddress);
    }
    const believes = trusted.some((proxy) => proxy.startsWith('127.') || proxy === 'loopback');
    expect(seen[3]).toBe(believes ? '203.0.113.9' : '127.0.0.1');
    expect(seen[0]).toBe('127.0.0.1');
  });
});

it.each([
  { of: 'needs a credential', change: { auth: ['api_key'] as const } },
  { of: 'is counted', change: { limit: 'open' as const } },
  { of: 'may be kept', change: { cacheControl: 'public' } },
])('a route that $of can’t be direct', ({ change }) => {
  const options = { routes: [{ ...route, ...change }] } as unknown as Parameters<typeof answerDirectly>[0];
  expect(() => answerDirectly(options, () => undefined)).toThrow('oauth.echo: a direct route');
});
