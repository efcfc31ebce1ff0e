import { once } from 'node:events';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { Type } from 'typebox';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { openTestDatabase, testBox } from '../../test/helpers/database.ts';
import { send } from '../../test/helpers/request.ts';
import { createSharedCounts, write } from '../db/index.ts';
import { systemClock } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { newId } from '../kernel/ids.ts';
import { defineRoute, rateLimits, type Route } from './route.ts';
import { createControlServer } from './server.ts';

const Thing = Type.Object({ name: Type.String() }, { additionalProperties: false });
const open = { auth: [], scopes: [], limit: 'open', status: 200, errors: [], summary: 'For tests' } as const;
const get = { ...open, method: 'GET', schema: { response: Type.Unknown() } } as const;
let runs = 0;

const routes: Route[] = [
  defineRoute({ ...get, id: 'thing.get', path: '/v1/things', handler: async () => ({ name: 'thing' }) }),
  defineRoute({ ...get, id: 'thing.few', path: '/v1/few', limit: 'registration', handler: async () => ({}) }),
  defineRoute({
    ...get,
    id: 'thing.break',
    path: '/v1/broken',
    handler: () => Promise.reject(new Error('password=hunter2 at row 7')),
  }),
  defineRoute({
    ...get,
    id: 'oauth.fail',
    path: '/oauth/things',
    handler: () => Promise.reject(new AppError('invalid_client', 'No such client')),
  }),
  defineRoute({
    ...get,
    id: 'oauth.break',
    path: '/oauth/broken',
    handler: () => Promise.reject(new Error('hunter2')),
  }),
  defineRoute({
    ...open,
    id: 'thing.create',
    method: 'POST',
    path: '/v1/things',
    auth: ['api_key'],
    scopes: ['servers:write'],
    status: 201,
    schema: { body: Thing, response: Thing },
    handler: ({ body, context }) =>
      write(context, async () => {
        runs += 1;
        return {
          result: { name: `${body.name} ${runs}` },
          audit: { action: 'thing.created', resource: body.name },
        };
      }),
  }),
];

const lines: string[] = [];
const log = new Writable({
  write(chunk: Buffer, _encoding, done) {
    lines.push(chunk.toString());
    done();
  },
});
let app: Awaited<ReturnType<typeof createControlServer>>;
let url: string;

beforeAll(async () => {
  const { db } = await openTestDatabase();
  const principal = {
    organisationId: newId('organisation'),
    environmentId: newId('environment'),
    scopes: ['servers:write'],
  };
  const key = { kind: 'api_key' as const, apiKeyId: newId('api_key'), ...principal };
  app = await createControlServer({
    trustedProxies: [],
    routes,
    authenticators: {
      async findApiKey(credential) {
        return {
          good: key,
          other: { ...key, apiKeyId: newId('api_key') },
          weak: { ...key, scopes: [] },
        }[credential];
      },
      isOperatorKey: () => false,
      async findAgent({ scheme }) {
        if (scheme === 'Bearer') return undefined;
        const headers = { 'www-authenticate': 'DPoP error="use_dpop_nonce"' };
        throw new AppError('unauthorized', 'With a nonce', { headers });
      },
    },
    counts: createSharedCounts({ db, clock: systemClock }),
    db,
    clock: systemClock,
    box: testBox,
    logger: pino({ level: 'info' }, log),
    findGatewayUrl: async (slug) => (slug === 'demo' ? 'http://gateway/api/demo' : undefined),
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
});
beforeEach(() => lines.splice(0));
afterAll(() => app.close());

const create = (body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${url}/v1/things`, {
    method: 'POST',
    headers: { 'x-api-key': 'good', 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

const isProblem = (status: number, code: string) => ({
  type: `urn:credence:error:${code}`,
  title: expect.any(String),
  status,
  code,
  detail: expect.any(String),
  request_id: expect.stringMatching(/^req_/),
});

describe('an error', () => {
  it.each([
    { of: 'an unknown path', path: '/v1/nothing', status: 404, code: 'not_found' },
    {
      of: 'a method that a path has not',
      path: '/v1/things',
      method: 'DELETE',
      status: 404,
      code: 'not_found',
    },
    { of: 'a missing credential', path: '/v1/things', method: 'POST', status: 401, code: 'unauthorized' },
    { of: 'a fault of ours', path: '/v1/broken', status: 500, code: 'internal_error' },
    { of: 'a target that is no URL', path: '/v1/%zz', status: 400, code: 'invalid_request' },
  ])('of $of is a problem document that carries the request’s id', async ({ path, method, status, code }) => {
    const answer = await fetch(`${url}${path}`, { method: method ?? 'GET' });
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/);
    expect(answer.headers.get('cache-control')).toBe('no-store');
    const body = (await answer.json()) as { request_id: string };
    expect(body).toMatchObject(isProblem(status, code));
    expect(answer.headers.get('x-request-id')).toBe(body.request_id);
  });

  it('of ours shows the request’s id and nothing else, and the log has the rest under that id', async () => {
    const answer = await fetch(`${url}/v1/broken`);
    const id = answer.headers.get('x-request-id');
    expect(await answer.text()).not.toContain('hunter2');
    const logged = lines.find((line) => line.includes('hunter2'));
    expect(logged).toContain(id);
  });

  it.each([
    { path: '/oauth/things', status: 401, error: 'invalid_client' },
    { path: '/oauth/broken', status: 500, error: 'server_error' },
    { path: '/oauth/nothing', status: 404, error: 'invalid_request' },
  ])('at $path has the shape of RFC 6749', async ({ path, status, error }) => {
    const answer = await fetch(`${url}${path}`);
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toMatch(/^application\/json/);
    const body = (await answer.json()) as Record<string, string>;
    expect(Object.keys(body)).toEqual(['error', 'error_description']);
    expect(body['error']).toBe(error);
    expect(JSON.stringify(body)).not.toContain('hunter2');
  });

  it.each([
    { of: 'a missing field', body: {}, status: 400, says: 'name is missing' },
    {
      of: 'an unknown field',
      body: { name: 'a', nmae: 'b' },
      status: 400,
      says: 'nmae is not a known field',
    },
    { of: 'a field of another type', body: { name: 1 }, status: 400, says: 'name must be string' },
    { of: 'what is no JSON', body: '{', status: 400, says: 'not valid JSON' },
    { of: 'a body beyond 1 MiB', body: { name: 'a'.repeat(1024 * 1024) }, status: 413, says: '1 MiB' },
  ])('of $of says what is wrong', async ({ body, status, says }) => {
    const answer = await create(body);
    expect(answer.status).toBe(status);
    expect(((await answer.json()) as { detail: string }).detail).toContain(says);
  });

  it.each([
    { of: 'a bad key', headers: { 'x-api-key': 'bad' }, status: 401 },
    { of: 'two credentials', headers: { authorization: 'Bearer good' }, status: 401 },
    { of: 'a key without the scope', headers: { 'x-api-key': 'weak' }, status: 403 },
    { of: 'a form', headers: { 'content-type': 'application/x-www-form-urlencoded' }, status: 415 },
  ])('of $of is a $status', async ({ headers, status }) => {
    expect((await create({ name: 'a' }, headers as Record<string, string>)).status).toBe(status);
  });
});

describe('an answer', () => {
  it('carries the request’s id, and is not stored unless its route says so', async () => {
    const answer = await fetch(`${url}/v1/things`);
    expect(answer.headers.get('x-request-id')).toMatch(/^req_/);
    expect(answer.headers.get('cache-control')).toBe('no-store');
  });

  it('to HEAD is that to GET without its body', async () => {
    const answer = await fetch(`${url}/v1/things`, { method: 'HEAD' });
    expect([answer.status, await answer.text()]).toEqual([200, '']);
    expect(answer.headers.get('content-length')).toBe(String('{"name":"thing"}'.length));
  });

  it.each(['/v1/things', '/api/v1/things', '/api/things', '/v1/things/'])(
    'is the same at %s',
    async (path) => {
      expect(await (await fetch(`${url}${path}`)).json()).toEqual({ name: 'thing' });
    },
  );

  it('to a call of a seller’s API on this plane names the gateway', async () => {
    const body = await (await fetch(`${url}/api/demo/sun`)).json();
    expect(body).toMatchObject({ code: 'not_found', next: { url: 'http://gateway/api/demo' } });
  });

  it('is repeated for the same Idempotency-Key, for its own caller only', async () => {
    const headers = { 'idempotency-key': 'once' };
    const [first, again] = [await create({ name: 'a' }, headers), await create({ name: 'a' }, headers)];
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(await again.text()).toBe(await first.text());
    expect((await create({ name: 'b' }, headers)).status).toBe(409);
    expect((await create({ name: 'b' }, { ...headers, 'x-api-key': 'other' })).status).toBe(201);
  });

  it('is one line in the log, without the query', async () => {
    await fetch(`${url}/v1/things?token=a-secret`);
    await expect.poll(() => lines.length).toBe(1);
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ method: 'GET', path: '/v1/things', status: 200 });
    expect(lines.join('')).not.toContain('a-secret');
  });

  it('beyond the route’s limit is a 429 that says when to come again', async () => {
    for (let times = 0; times < rateLimits.registration; times += 1) await fetch(`${url}/v1/few`);
    const answer = await fetch(`${url}/v1/few`);
    expect(answer.status).toBe(429);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await answer.json()).toMatchObject(isProblem(429, 'rate_limited'));
    expect((await fetch(`${url}/v1/things`)).status, 'other routes have their own').toBe(200);
  });

  it('to a POST without a body reads it as {}', async () => {
    const sent = request(`${url}/v1/things`, { method: 'POST', headers: { 'x-api-key': 'good' } }).end();
    const [answer] = await once(sent, 'response');
    expect(await text(answer)).toContain('name is missing');
  });
});

it('wrong API keys are refused with 429 after a while; good keys from the same address are not, and tokens and challenges get their 401', async () => {
  const from = '127.6.6.1';
  const post = (headers: Record<string, string>) =>
    send(`${url}/v1/things`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: '{"name":"a"}',
      from,
    });
  const statuses: number[] = [];
  for (let index = 0; index < rateLimits.credential + 100; index += 1)
    statuses.push((await post({ 'x-api-key': 'wrong' })).status);
  expect(new Set(statuses.slice(0, rateLimits.credential))).toEqual(new Set([401]));
  expect(statuses.at(-1)).toBe(429);
  expect((await post({ 'x-api-key': 'good' })).status).toBe(201);
  expect((await post({ authorization: 'Bearer a.b.c' })).status).toBe(401);
  const challenged = await post({ authorization: 'DPoP a.b.c' });
  expect(challenged.headers['www-authenticate']).toBe('DPoP error="use_dpop_nonce"');
});
