import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, getMandate, registerAgent } from '../helpers/agent.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { createClient } from '../helpers/oauth.ts';
import { type Answer, send } from '../helpers/request.ts';
import { callApi, sell, type Sold } from '../helpers/seller.ts';

/** A route with a good body for it. */
interface PostRoute {
  path: string;
  body: object;
  /** A field that it can't do without; `null` where it has none. */
  required: string | null;
  /** Whether unknown fields are no error, as the standards want it. */
  ignores?: boolean;
  /** The credential, where it isn't the API key. */
  as?: string;
}

describe('bodies of the control plane', { timeout: 20_000 }, () => {
  let instance: Instance;
  let sold: Sold;
  let agent: Agent;
  let owned: string;

  beforeAll(async () => {
    instance = await startInstance();
    sold = await sell(instance, 'http://127.0.0.1:1', 'garbage');
    agent = await registerAgent(instance);
    owned = (await createClient(instance)).agentId;
  }, 60_000);
  afterAll(async () => {
    await instance?.stop();
  }, 60_000);

  const intent = { naturalLanguage: 'x', limitAmount: '1', validForSeconds: 1 };
  const server = { name: 'x', base_url: 'http://127.0.0.1:1' };
  const endpoint = { public_path: '/x', price: '$1' };
  /** Each POST route that an API key or an agent may call; those for persons and operators have tests of their own. */
  const routes = (): PostRoute[] => [
    {
      path: '/register',
      body: { agent_name: 'x', client_info: 'x' },
      required: 'client_info',
      ignores: true,
    },
    { path: '/refresh', body: agent, required: 'token', ignores: true },
    {
      path: '/agent/vc/issue',
      body: { challenge: 'x', audience: 'x' },
      required: 'challenge',
      as: agent.jwt,
    },
    { path: '/verify-vc', body: { vc: 'x', challenge: 'x', audience: 'x' }, required: 'audience' },
    { path: '/v1/mandates/create-intent', body: { intent }, required: 'intent', as: agent.jwt },
    {
      path: '/v1/payments/x402',
      body: { mandate_id: 'x', payment_required: 'e30=' },
      required: 'mandate_id',
      as: agent.jwt,
    },
    { path: '/v1/servers', body: server, required: 'base_url' },
    { path: `/v1/servers/${sold.serverId}/endpoints`, body: endpoint, required: 'price' },
    { path: `/v1/servers/${sold.serverId}/publish`, body: {}, required: null },
    {
      path: '/v1/resources',
      body: { identifier: 'https://api.example', name: 'x' },
      required: 'identifier',
    },
    ...['/facilitator/verify', '/facilitator/settle'].map((path) => ({
      path,
      // Of a version to come: well-formed, and an outcome.
      body: { x402Version: 3, paymentPayload: {}, paymentRequirements: {} },
      required: 'paymentPayload',
      ignores: true,
    })),
    { path: '/v1/wallet/credit-keys', body: { jwk: {} }, required: 'jwk' },
    { path: '/v1/agents', body: { name: 'x' }, required: 'name' },
    { path: `/v1/agents/${owned}`, body: { action: 'rotate' }, required: 'action' },
    { path: `/v1/agents/${owned}/credentials`, body: {}, required: null },
    ...['stop', 'deactivate', 'reactivate'].map((action) => ({
      path: `/v1/agents/${owned}/${action}`,
      body: {},
      required: null,
    })),
    { path: '/v1/agents/stop-all', body: {}, required: null },
    { path: '/v1/agents/me/rotate', body: {}, required: null, as: agent.jwt },
    { path: '/v1/agents/me/deactivate', body: {}, required: null, as: agent.jwt },
  ];
  const post = (path: string, body: string, as: string | undefined, type = 'application/json') =>
    send(`${instance.info.api_url}${path}`, {
      method: 'POST',
      body,
      headers: { 'content-type': type, authorization: `Bearer ${as ?? instance.info.api_key}` },
    });

  it('are all tried: these are the POST routes that the API describes', async () => {
    const { paths } = (await callApi(instance, '/v1/openapi.json')).json();
    // Those of OAuth take forms and have errors of their own: oauth-endpoints.test.ts.
    const described = Object.keys(paths).filter(
      (path) => 'post' in paths[path] && !path.startsWith('/oauth/'),
    );
    const tried = [
      ...routes().map(({ path }) => path),
      '/v1/mandates/x/sign',
      '/v1/agent-links/x/approve',
      '/v1/agent-links/x/refuse',
      '/v1/credits/issue',
      '/v1/relayers',
      '/v1/relayers/x/deactivate',
      '/v1/relayers/x/reactivate',
    ];
    expect(tried.map(plain).toSorted()).toEqual(described.map(plain).toSorted());
  });

  it('with an unknown field are 400 naming it, or ignore it where the standards say so', async () => {
    for (const { path, body, ignores, as } of routes()) {
      const answer = await post(path, JSON.stringify({ ...body, surprise: 1 }), as);
      const expected = ignores ? [] : [{ field: 'surprise', message: 'is not a known field' }];
      expect(answer.json().errors ?? []).toEqual(expected);
      expect(answer.status).toBe(ignores ? (path === '/register' ? 201 : 200) : 400);
    }
    const inner = await post(
      '/v1/mandates/create-intent',
      JSON.stringify({ intent: { ...intent, surprise: 1 } }),
      agent.jwt,
    );
    expectProblem(inner, 400, 'invalid_request', 'intent.surprise');
  });

  it('without a field that is needed are 400 naming it, and with one of a wrong type as well', async () => {
    for (const { path, body, required, as } of routes().filter(hasRequired)) {
      const { [required as keyof typeof body]: _, ...rest } = body;
      expectProblem(await post(path, JSON.stringify(rest), as), 400, 'invalid_request', required);
      for (const wrong of [null, 5, [], '']) {
        const answer = await post(path, JSON.stringify({ ...body, [required]: wrong }), as);
        expectProblem(answer, 400, 'invalid_request');
        expect(answer.json().detail).toContain(required);
      }
    }
  });

  it.each(['null', '[]', '"text"', '5', '{', '{"a":1}}', '\u0000', '['.repeat(50_000)])(
    'that are no JSON object (%.20s) are 400',
    async (text) => {
      for (const { path, as } of routes()) {
        expectProblem(await post(path, text, as), 400, 'invalid_request');
      }
    },
  );

  it.each([500, 50_000])('that are nested %i deep are 400, with an Idempotency-Key too', async (depth) => {
    const metadata = `${'['.repeat(depth)}${']'.repeat(depth)}`;
    for (const key of [{}, { 'idempotency-key': `deep-${depth}` }]) {
      const answer = await send(`${instance.info.api_url}/v1/agents`, {
        method: 'POST',
        body: `{"name":"x","metadata":{"a":${metadata}}}`,
        headers: {
          'content-type': 'application/json',
          authorization: `Bearer ${instance.info.api_key}`,
          ...key,
        },
      });
      expectProblem(answer, 400, 'invalid_request');
      expect(answer.json().detail).toContain('nested');
    }
  });

  it.each([
    '{"__proto__":{"polluted":1}}',
    '{"constructor":{"prototype":{"polluted":1}}}',
    '{"intent":{"__proto__":{"polluted":1}}}',
  ])('that reach for a prototype (%s) are 400', async (text) => {
    for (const { path, as } of routes()) {
      expectProblem(await post(path, text, as), 400, 'invalid_request');
    }
  });

  it.each(['\u0000', 'a\u0000b', '\ud800', '\u202e'])(
    'with a text that is hard to keep (%j) are stored, or refused by name, and never a 5xx',
    async (text) => {
      for (const { path, body, as } of routes()) {
        for (const field of [
          'agent_name',
          'agent_id',
          'name',
          'description',
          'slug',
          'base_url',
          'public_path',
          'mandate_id',
        ]) {
          const answer = await post(path, JSON.stringify({ ...body, [field]: text }), as);
          expect(answer.status, `${path} ${field}: ${answer.text}`).toBeLessThan(500);
        }
      }
      for (const field of ['naturalLanguage', 'category']) {
        const body = { intent: { ...intent, [field]: text } };
        const answer = await callApi(instance, '/v1/mandates/create-intent', {
          body,
          credential: agent.jwt,
        });
        expect(answer.status, `${field}: ${answer.text}`).toBeLessThan(500);
      }
    },
  );

  it.each(['%00', 'a%00b', '%ff', '%'])(
    'in a path or a query (%s) are no 5xx, and a problem in our words',
    async (id) => {
      for (const path of [
        `/v1/servers/${id}`,
        `/v1/mandates/${id}`,
        `/v1/servers?cursor=${id}`,
        `/audit-logs?resource=${id}`,
      ]) {
        const answer = await callApi(instance, path, { credential: instance.info.api_key });
        // A byte that is no UTF-8 is U+FFFD in a query, and finds nothing.
        const found = path.includes('?') && !id.includes('%00');
        expect(answer.status, answer.text).toBe(found ? 200 : 400);
        expect(answer.headers['content-type']).toMatch(
          found ? 'application/json' : 'application/problem+json',
        );
      }
    },
  );

  it('of more than 1 MiB are 413, of another type 415', async () => {
    for (const { path, body, as } of routes()) {
      expectProblem(await post(path, `"${'x'.repeat(1024 * 1024)}"`, as), 413, 'payload_too_large');
      for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/jsonp', 'nonsense'])
        expectProblem(await post(path, JSON.stringify(body), as, type), 415, 'unsupported_media_type');
    }
  });

  it('of mandate.sign, which only a person may call, are refused alike', async () => {
    const path = `/v1/mandates/${await getMandate(instance, agent)}/sign`;
    expectProblem(
      await callApi(instance, path, { body: { surprise: 1 } }),
      400,
      'invalid_request',
      'surprise',
    );
    expectProblem(await callApi(instance, path, { body: [] }), 400, 'invalid_request');
    expectProblem(await callApi(instance, path, { body: 'x'.repeat(1024 * 1024) }), 413, 'payload_too_large');
  });

  it('of them all, nothing was a 5xx, and no secret is in the log', () => {
    const log = instance.output();
    expect(log).toContain('"msg":"request"');
    expect(log).not.toMatch(/"status":5\d\d|"level":(?:50|60)/);
    for (const secret of [instance.info.api_key, instance.info.faucet_key, agent.token, agent.jwt, 'eyJ'])
      expect(log).not.toContain(secret);
  });
});

function expectProblem(answer: Answer, status: number, code: string, field?: string): void {
  expect(answer.status, answer.text).toBe(status);
  expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
  const body = answer.json();
  expect(body).toMatchObject({ status, code, request_id: answer.headers['x-request-id'] });
  const named = (body.errors ?? []).map((error: { field: string }) => error.field);
  expect(named).toEqual(field === undefined ? named : expect.arrayContaining([field]));
}

function plain(path: string): string {
  return path.replace(/\{[^}]*\}/g, '*').replace(/\/(?:srv_\w+|x|[0-9a-f-]{36})(?=\/|$)/, '/*');
}

function hasRequired(route: PostRoute): route is PostRoute & { required: string } {
  return route.required !== null;
}
