import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Instance } from '../helpers/instance.ts';
import { askToken, createClient, type OAuthClient, postForm } from '../helpers/oauth.ts';
import { expectError, type OAuthScene, openOAuthScene } from '../helpers/oauth-scene.ts';
import { type Answer, send } from '../helpers/request.ts';
import { callApi } from '../helpers/seller.ts';

let scene: OAuthScene;
let instance: Instance;
let client: OAuthClient;
beforeAll(async () => {
  scene = await openOAuthScene();
  ({ instance, client } = scene);
}, 60_000);
afterAll(() => scene?.close(), 60_000);

const basic = (id: string, secret: string) => ({
  authorization: `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')}`,
});

describe('the token endpoint', () => {
  it.each<[string, () => Promise<Answer>, number, string]>([
    [
      'a wrong secret',
      () => askToken(instance, { ...client, secret: `cs_${'A'.repeat(49)}` }),
      401,
      'invalid_client',
    ],
    [
      'an unknown client',
      () => askToken(instance, { ...client, clientId: 'cid_nobody' }),
      401,
      'invalid_client',
    ],
    [
      'no client',
      () => postForm(instance, '/oauth/token', { grant_type: 'client_credentials' }),
      401,
      'invalid_client',
    ],
    [
      'a scope beyond the agent’s',
      () => askToken(instance, client, { scope: 'read admin' }),
      400,
      'invalid_scope',
    ],
    ['a malformed scope', () => askToken(instance, client, { scope: 'read  write' }), 400, 'invalid_scope'],
    ['no grant type', () => askToken(instance, client, { grant_type: '' }), 400, 'invalid_request'],
    [
      'another grant type',
      () => askToken(instance, client, { grant_type: 'password' }),
      400,
      'unsupported_grant_type',
    ],
    [
      'a parameter twice',
      () => askToken(instance, client, { scope: ['read', 'read'] }),
      400,
      'invalid_request',
    ],
    [
      'an unknown parameter twice',
      () => askToken(instance, client, { colour: ['a', 'b'] }),
      400,
      'invalid_request',
    ],
    [
      'two ways to authenticate',
      () => askToken(instance, client, {}, basic(client.clientId, client.secret)),
      400,
      'invalid_request',
    ],
    [
      'an unregistered resource',
      () => askToken(instance, client, { resource: 'https://api.example' }),
      400,
      'invalid_target',
    ],
  ])('answers %s with the error of RFC 6749', async (_what, ask, status, error) => {
    expectError(await ask(), status, error);
  });

  it('answers who used Basic with a challenge to use Basic, and ignores what it does not know', async () => {
    const fields = { grant_type: 'client_credentials', colour: 'blue' };
    const granted = await postForm(instance, '/oauth/token', fields, basic(client.clientId, client.secret));
    expect(granted.status).toBe(200);
    const bad = await postForm(instance, '/oauth/token', fields, basic(client.clientId, 'wrong'));
    expectError(bad, 401, 'invalid_client');
    expect(bad.headers['www-authenticate']).toMatch(/^Basic /);
    expect(bad.headers['cache-control']).toBe('no-store');
  });

  it('gives a token for a registered resource, for it alone', async () => {
    const resource = `https://api.example/${client.agentId}`;
    const body = { identifier: resource, name: 'An API', scopes: ['read'] };
    const credential = instance.info.api_key;
    const created = await callApi(instance, '/v1/resources', { body, credential });
    expect(created.status).toBe(201);
    expectError(await askToken(instance, client, { resource, scope: 'write' }), 400, 'invalid_scope');
    expectError(
      await askToken(instance, client, { resource: [resource, instance.info.api_url] }),
      400,
      'invalid_target',
    );
    const { access_token, scope } = (await askToken(instance, client, { resource })).json();
    expect(scope).toBe('read');
    expect((await scene.meWith(`Bearer ${access_token}`)).status).toBe(401);
    const about = await postForm(
      instance,
      '/oauth/introspect',
      { token: access_token },
      { 'x-api-key': credential },
    );
    expect(about.json()).toMatchObject({ active: true, aud: resource });
    const path = `/v1/resources/${created.json().id}`;
    expect((await callApi(instance, path, { method: 'DELETE', credential })).status).toBe(204);
    expectError(await askToken(instance, client, { resource }), 400, 'invalid_target');
  });
});

describe('every OAuth endpoint', () => {
  it.each(['/oauth/token', '/oauth/refresh', '/oauth/introspect', '/oauth/revoke'])(
    '%s answers garbage with an error of OAuth, and never with a failure of ours',
    async (path) => {
      const json = 'application/json';
      const form = 'application/x-www-form-urlencoded';
      const bodies: [string, string][] = [
        ...['null', '[]', '5', '{', '\u0000', '['.repeat(50_000), '{"__proto__":{"a":1}}'].map(
          (body): [string, string] => [json, body],
        ),
        [json, JSON.stringify({ grant_type: 'refresh_token', refresh_token: 5, client_id: [], token: {} })],
        [
          json,
          JSON.stringify({ grant_type: 'client_credentials', client_id: 'a\u0000', client_secret: '\ud800' }),
        ],
        [form, '%'],
        [form, '='.repeat(100_000)],
        [form, '__proto__=1&constructor=2&grant_type=client_credentials'],
        [form, 'grant_type=client_credentials&client_assertion=a.b.c'],
        ['text/plain', 'grant_type=client_credentials'],
      ];
      for (const [type, body] of bodies) {
        const answer = await send(`${instance.info.api_url}${path}`, {
          method: 'POST',
          headers: { 'content-type': type },
          body,
          from: '127.9.9.9',
        });
        expect(answer.status, body.slice(0, 50)).toBeGreaterThanOrEqual(400);
        expect(answer.status, body.slice(0, 50)).toBeLessThan(500);
        expect(answer.json().error, body.slice(0, 50)).toBeTypeOf('string');
      }
    },
  );
});

/** A scope as long as one may be. */
const word = (index: number) => String(index).padStart(2, '0').padEnd(200, 'x');

describe('an access token', () => {
  it('opens no management route, whatever its scopes are called', async () => {
    const scopes = ['agents:read', 'agents:write', 'audit:read', 'servers:write', 'resources:write'];
    const own = await createClient(instance, { scopes });
    const { access_token: credential, scope } = (await askToken(instance, own)).json();
    expect(scope).toBe(scopes.join(' '));
    for (const path of ['/v1/agents', '/v1/audit-logs', '/v1/servers', '/v1/resources']) {
      expect((await callApi(instance, path, { credential })).status).toBeGreaterThanOrEqual(403);
    }
    const body = { identifier: 'https://evil.example', name: 'Evil' };
    expect((await callApi(instance, '/v1/resources', { body, credential })).status).toBe(403);
  });

  it('is told about to its client and to an API key of its environment, and to nobody else', async () => {
    const { access_token: token } = (await askToken(instance, client)).json();
    const stranger = await createClient(instance);
    const ask = (fields: Record<string, string>, headers = {}) =>
      postForm(instance, '/oauth/introspect', { token, ...fields }, headers);
    const self = { client_id: client.clientId, client_secret: client.secret };
    expect((await ask(self)).json()).toMatchObject({
      active: true,
      sub: client.agentId,
      scope: 'read write',
    });
    expect((await ask({}, { authorization: `Bearer ${instance.info.api_key}` })).json()).toMatchObject({
      active: true,
    });
    for (const name of ['x-api-key', 'x-affixio-key'])
      expect((await ask({}, { [name]: instance.info.api_key })).json()).toMatchObject({ active: true });
    const both = { 'x-api-key': instance.info.api_key, 'x-affixio-key': instance.info.api_key };
    expectError(await ask({}, both), 400, 'invalid_request');
    expect((await ask({ ...self, token_type_hint: 'refresh_token' })).json().active).toBe(true);
    const other = { client_id: stranger.clientId, client_secret: stranger.secret };
    expect((await ask(other)).text).toBe('{"active":false}');
    expectError(await ask({}), 401, 'invalid_client');
    expectError(await ask({}, { authorization: `Bearer ${token}` }), 401, 'invalid_client');
    expect((await ask({ ...self, token: 'nonsense' })).text).toBe('{"active":false}');
  });

  it('with as many scopes as an agent may have is taken by introspection, and by us in a header', async () => {
    const scopes = Array.from({ length: 20 }, (_, index) => word(index));
    const credential = instance.info.api_key;
    const create = (all: string[]) =>
      callApi(instance, '/v1/agents', { body: { name: 'Wide', scopes: all }, credential });
    const refused = await create([...scopes, word(20)]);
    expect([refused.status, refused.json().errors]).toMatchObject([400, [{ field: 'scopes' }]]);
    const own = await createClient(instance, { scopes });
    const { access_token: token } = (await askToken(instance, own)).json();
    expect(token.length).toBeLessThan(8 * 1024);
    const about = await postForm(instance, '/oauth/introspect', { token }, { 'x-api-key': credential });
    expect(about.json()).toMatchObject({ active: true, scope: scopes.join(' ') });
    expect((await scene.meWith(`Bearer ${token}`)).status).toBe(200);
    const path = `/v1/agents/${own.agentId}`;
    const body = { scopes: [...scopes, word(20)] };
    expect((await callApi(instance, path, { method: 'PATCH', body, credential })).status).toBe(400);
    const resource = { identifier: `https://api.example/${own.agentId}`, name: 'Wide', scopes: [word(0)] };
    expect((await callApi(instance, '/v1/resources', { body: resource, credential })).status).toBe(201);
  });

  it('is ended by its client, not by a stranger; what is unknown is answered alike', async () => {
    const { access_token: token, refresh_token } = (await askToken(instance, client)).json();
    const stranger = await createClient(instance);
    const end = (of: OAuthClient, text: string) =>
      postForm(instance, '/oauth/revoke', { client_id: of.clientId, client_secret: of.secret, token: text });
    expect((await end(stranger, token)).status).toBe(200);
    expect((await scene.meWith(`Bearer ${token}`)).status).toBe(200);
    expect((await end(client, 'nonsense')).status).toBe(200);
    expect((await end(client, token)).status).toBe(200);
    expect((await scene.meWith(`Bearer ${token}`)).status).toBe(401);
    // The family goes on: only this token was ended.
    expect((await askToken(instance, client, { grant_type: 'refresh_token', refresh_token })).status).toBe(
      200,
    );
  });
});
