import { randomBytes } from 'node:crypto';
import pino from 'pino';
import { Type } from 'typebox';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSharedCounts, openDatabase } from '../db/index.ts';
import { systemClock } from '../kernel/clock.ts';
import { createSecretBox } from '../kernel/crypto.ts';
import { newId } from '../kernel/ids.ts';
import type { Principal } from './principal.ts';
import { defineRoute } from './route.ts';
import { createControlServer } from './server.ts';

const person: Principal = {
  kind: 'person',
  development: true,
  organisationId: newId('organisation'),
  environmentId: newId('environment'),
};
const route = (path: `/${string}`) =>
  defineRoute({
    id: `test.${path}`,
    summary: path,
    method: 'POST',
    path,
    auth: ['person'],
    scopes: [],
    limit: 'write',
    status: 200,
    schema: { response: Type.Object({ as: Type.String() }) },
    errors: [],
    handler: async ({ principal }) => ({ as: principal.kind }),
  });

// Opened, and never asked: no route here has to do with it.
const db = openDatabase('postgres://nobody@127.0.0.1:1/none', { poolSize: 1, onError: () => undefined });
let server: Awaited<ReturnType<typeof createControlServer>>;
beforeAll(async () => {
  const routes = [
    '/v1/mandates/:id/sign',
    '/v1/payouts',
    '/v1/payments/x402',
    '/v1/payment-intents/:id/capture',
  ] as const;
  server = await createControlServer({
    trustedProxies: [],
    routes: routes.map(route),
    authenticators: {
      findApiKey: async () => undefined,
      findAgent: async () => undefined,
      isOperatorKey: () => false,
      development: { principal: async () => person, port: () => 8080 },
    },
    counts: createSharedCounts({ db, clock: systemClock }),
    db,
    clock: systemClock,
    box: createSecretBox(randomBytes(32)),
    logger: pino({ level: 'silent' }),
    findGatewayUrl: async () => undefined,
  });
});
afterAll(async () => {
  await server.close();
  await db.close();
});

const post = (url: string, headers: Record<string, string> = {}) =>
  server.inject({ method: 'POST', url, headers: { host: 'localhost:8080', ...headers } });

describe('a request without a credential, in development', () => {
  it.each([
    '/v1/mandates/dlg_1/sign',
    '/api/v1/mandates/dlg_1/sign',
    '/api/mandates/dlg_1/sign/',
    '/v1/m%61ndates/x/sign',
  ])('acts as the owner at %s', async (url) => {
    const answer = await post(url);
    expect([answer.statusCode, answer.json()]).toEqual([200, { as: 'person' }]);
  });

  it.each([
    '/v1/payouts',
    '/v1/payouts/',
    '/api/v1/payouts',
    '/api/payouts',
    '/v1/pay%6Futs',
    '/v1/payments/x402',
    '/v1/p%61yments/x402',
    '/v1/payments%2Fx402',
    '/v1/payment-intents/pi_1/capture',
    '/v1/payment-intents/pi_1/capture/',
    '/v1/payment-intents/pi_1/c%61pture',
    '/v1/payment-intents/pi_1/capture?x=1',
    '/v1/payment-intents/a%2Fb/capture',
  ])('moves no money, however its path is spelt: %s', async (url) => {
    const answer = await post(url);
    // Another spelling that names no route is as good as a refusal.
    expect([401, 404]).toContain(answer.statusCode);
    expect(answer.json()).not.toHaveProperty('as');
  });

  it.each([
    ['authorization', 'Bearer awx_test_wrong'],
    ['authorization', 'Bearer eyJ.wrong.token'],
    ['authorization', 'Basic dTpw'],
    ['authorization', ''],
    ['x-api-key', 'wrong'],
    ['x-api-key', ''],
    ['x-affixio-key', 'wrong'],
  ])('is not one where %s was sent, as %j', async (name, value) => {
    expect((await post('/v1/mandates/dlg_1/sign', { [name]: value })).statusCode).toBe(401);
  });
});
