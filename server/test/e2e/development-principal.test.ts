import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, askForMandate, getMandate, registerAgent } from '../helpers/agent.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { type Answer, send, type Sending } from '../helpers/request.ts';
import { callApi, sell } from '../helpers/seller.ts';

describe('the development principal', { timeout: 20_000 }, () => {
  let instance: Instance;
  let agent: Agent;
  let origin: string;
  let port: string;

  beforeAll(async () => {
    instance = await startInstance();
    agent = await registerAgent(instance);
    ({ origin, port } = new URL(instance.info.api_url));
  }, 60_000);
  afterAll(async () => {
    await instance?.stop();
  }, 60_000);

  const get = (headers: Record<string, string>, path = '/v1/servers') =>
    send(`${origin}${path}`, { headers });
  const post = (path: string, sending: Sending) => send(`${origin}${path}`, { method: 'POST', ...sending });
  const json = { 'content-type': 'application/json' };

  describe('acts as the owner, without a credential', () => {
    it.each(['localhost', '127.0.0.1', '[::1]'])('for a request to %s at our port', async (host) => {
      expect((await get({ host: `${host}:${port}` })).status).toBe(200);
    });

    it.each<Record<string, string>>([
      { 'sec-fetch-site': 'same-origin' },
      { 'sec-fetch-site': 'none' },
      { 'x-request-id': 'mine' },
    ])('for a request with %j', async (headers) => {
      expect((await get(headers)).status).toBe(200);
    });

    it('for a page of our own', async () => {
      expect((await get({ origin })).status).toBe(200);
    });

    it('for a write with a JSON body, or with none, and the audit log says who it was', async () => {
      const made = await post('/v1/servers', { headers: json, body: newServer('made by nobody') });
      expect(made.status).toBe(201);
      const { mandateId } = await askForMandate(instance, agent);
      expect((await post(`/v1/mandates/${mandateId}/sign`, {})).status).toBe(200);
      const { data } = (await get({}, `/audit-logs?resource=${made.json().id}`)).json();
      expect(data).toMatchObject([{ action: 'server.created', actor: { kind: 'development' } }]);
    });
  });

  describe('is refused, with the reason', () => {
    it.each<[string, Record<string, string>, string]>([
      ['a cookie', { cookie: 'a=b' }, 'cookie'],
      ['Forwarded', { forwarded: 'for=1.2.3.4' }, 'forwarded'],
      ['X-Forwarded-For', { 'x-forwarded-for': '127.0.0.1' }, 'x-forwarded-for'],
      ['X-Forwarded-Host', { 'x-forwarded-host': 'localhost' }, 'x-forwarded-host'],
      ['X-Real-IP', { 'x-real-ip': '127.0.0.1' }, 'x-real-ip'],
      ['Via', { via: '1.1 proxy' }, 'via'],
      ['a foreign Host', { host: 'evil.example' }, 'Host'],
      ['our Host without our port', { host: 'localhost' }, 'Host'],
      ['a Host that begins like ours', { host: 'localhost.evil.example:80' }, 'Host'],
      ['a foreign Origin', { origin: 'https://evil.example' }, 'Origin'],
      ['an Origin of another port', { origin: 'http://localhost:1' }, 'Origin'],
      ['the Origin null', { origin: 'null' }, 'Origin'],
      ['Sec-Fetch-Site: cross-site', { 'sec-fetch-site': 'cross-site' }, 'another site'],
      ['Sec-Fetch-Site: same-site', { 'sec-fetch-site': 'same-site' }, 'another site'],
    ])('for %s, on reads and on writes', async (_, headers, reason) => {
      expectRefused(await get(headers), reason);
      const { mandateId } = await askForMandate(instance, agent);
      expectRefused(await post(`/v1/mandates/${mandateId}/sign`, { headers }), reason);
      const mandate = await callApi(instance, `/v1/mandates/${mandateId}`, { credential: agent.jwt });
      expect(mandate.json()).toMatchObject({ status: 'pending_signature' });
    });

    it.each([
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      undefined,
    ])('for a write whose body is %s', async (type) => {
      const headers = type === undefined ? {} : { 'content-type': type };
      expectRefused(await post('/v1/servers', { headers, body: newServer('smuggled') }), 'JSON');
      const chunked = { ...headers, 'transfer-encoding': 'chunked' };
      expectRefused(await post('/v1/servers', { headers: chunked, body: newServer('smuggled') }), 'JSON');
    });

    it('for a payment: money needs an agent or a key', async () => {
      const body = JSON.stringify({ mandate_id: 'x', payment_required: 'e30=' });
      for (const path of [
        '/v1/payments/x402',
        '/api/v1/payments/x402',
        '/api/payments/x402',
        '/v1/%70ayments/x402',
      ])
        expectRefused(await post(path, { headers: json, body }), 'payments need');
    });

    it('for a credential that is bad: it is not taken for none', async () => {
      const { api_key } = instance.info;
      const altered = `${api_key.slice(0, -1)}${api_key.endsWith('a') ? 'b' : 'a'}`;
      for (const value of ['nonsense', altered, `${agent.jwt}x`, agent.token, ''])
        expectRefused(await get({ 'x-api-key': value }), 'not valid');
      for (const value of [altered, agent.token])
        expectRefused(await get({ authorization: `Bearer ${value}` }), 'not valid');
      for (const value of ['', 'Bearer', 'Basic YTpi', api_key])
        expectRefused(await get({ authorization: value }), 'Authorization header must be');
    });

    it('where it is switched off, though nothing else is wrong', async () => {
      const off = await startInstance({ env: { CREDENCE_DEV_PRINCIPAL: 'off' } });
      try {
        expect((await callApi(off, '/v1/servers')).status).toBe(401);
        expect((await callApi(off, '/v1/servers', { credential: off.info.api_key })).status).toBe(200);
      } finally {
        await off.stop();
      }
    });
  });

  describe('beside it', () => {
    it.each([
      ['X-API-Key', (key: string) => ({ 'x-api-key': key })],
      ['X-AffixIO-Key', (key: string) => ({ 'x-affixio-key': key })],
      ['Authorization', (key: string) => ({ authorization: `Bearer ${key}` })],
    ])('an API key in %s is used, wherever the request comes from', async (_, headers) => {
      const foreign = {
        ...headers(instance.info.api_key),
        host: 'api.example.com',
        origin: 'https://app.example',
        cookie: 'a=b',
      };
      expect((await get(foreign)).status).toBe(200);
      const made = await post('/v1/servers', {
        headers: { ...json, ...headers(instance.info.api_key) },
        body: newServer(`by ${_}`),
      });
      const { data } = (await get({}, `/audit-logs?resource=${made.json().id}`)).json();
      expect(data).toMatchObject([{ actor: { kind: 'api_key' } }]);
    });

    it('two credentials are refused, equal ones as well', async () => {
      const { api_key } = instance.info;
      expectRefused(
        await get({ authorization: `Bearer ${api_key}`, 'x-api-key': api_key }),
        'one credential',
      );
      expectRefused(await get({ 'x-affixio-key': api_key, 'x-api-key': api_key }), 'one credential');
      expectRefused(
        await get({ authorization: `Bearer ${agent.jwt}`, 'x-api-key': api_key }),
        'one credential',
      );
    });

    it('nobody but a person signs a mandate: an API key and an agent are 403', async () => {
      const { mandateId } = await askForMandate(instance, agent);
      for (const credential of [instance.info.api_key, agent.jwt]) {
        const answer = await callApi(instance, `/v1/mandates/${mandateId}/sign`, { body: {}, credential });
        expect(answer.status).toBe(403);
        expect(answer.json()).toMatchObject({ code: 'forbidden' });
      }
      const mandate = await callApi(instance, `/v1/mandates/${mandateId}`, { credential: agent.jwt });
      expect(mandate.json()).toMatchObject({ status: 'pending_signature' });
    });

    it('an agent opens no management route, and nobody else asks or pays as an agent', async () => {
      expect((await callApi(instance, '/v1/servers', { credential: agent.jwt })).status).toBe(403);
      expect((await callApi(instance, '/v1/wallets', { credential: agent.jwt })).status).toBe(403);
      const body = { mandate_id: await getMandate(instance, agent), payment_required: 'e30=' };
      const credential = instance.info.api_key;
      expect((await callApi(instance, '/v1/payments/x402', { body, credential })).status).toBe(403);
    });

    it.each(['/v1', '/api/v1', '/api'])('%s is the spelling of one API', async (prefix) => {
      const { data } = (await get({}, `${prefix}/servers?limit=100`)).json();
      expect(data).toContainEqual(expect.objectContaining({ slug: 'demo' }));
      expect(await get({}, `${prefix}/openapi.json`)).toMatchObject({ status: 200 });
      expect((await get({}, `${prefix}x/servers`)).status).toBe(404);
    });

    it("a path of the gateway on the control plane is a 404 that names the gateway's URL", async () => {
      const { slug, url } = await sell(instance, 'http://127.0.0.1:1', 'elsewhere');
      for (const [path, next] of [
        ['/api/demo', '/api/demo'],
        ['/api/demo/sun?place=quito', '/api/demo'],
        [`/api/${slug}/paid`, url],
      ] as const) {
        const answer = await get({}, path);
        expect(answer.status).toBe(404);
        expect(answer.json()).toMatchObject({
          code: 'not_found',
          next: { url: next === url ? url : `${instance.info.gateway_url}${next}` },
        });
      }
      expect((await get({}, '/api/nobody/sun')).json()).not.toHaveProperty('next.url');
    });

    it("an API that is not published isn't named", async () => {
      await post('/v1/servers', { headers: json, body: newServer('draft') });
      expect((await get({}, '/api/draft')).json()).not.toHaveProperty('next.url');
    });
  });
});

function newServer(name: string): string {
  return JSON.stringify({ name, base_url: 'http://127.0.0.1:1' });
}

/** Refused, and with which reason: a newcomer has to see why. */
function expectRefused(answer: Answer, reason: string | RegExp): void {
  expect(answer.status, answer.text).toBe(401);
  expect(answer.json()).toMatchObject({ code: 'unauthorized', detail: expect.stringMatching(reason) });
  expect(answer.headers['www-authenticate']).toMatch(/^Bearer/);
}
