import { createHmac } from 'node:crypto';
import { exportSPKI } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Instance, startInstance } from '../helpers/instance.ts';
import {
  addKey,
  askToken,
  assertionType,
  type ClientKey,
  createClient,
  newKey,
  type OAuthClient,
  postForm,
  signAssertion,
  signProof,
} from '../helpers/oauth.ts';
import type { Answer } from '../helpers/request.ts';
import { send } from '../helpers/request.ts';
import { callApi, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

let instance: Instance;
let client: OAuthClient;
let key: ClientKey;
let upstream: Upstream;
let sold: Sold;

beforeAll(async () => {
  instance = await startInstance();
  client = await createClient(instance);
  key = await newKey();
  await addKey(instance, client, key);
  upstream = await startUpstream((_, response) => response.end('answered'));
  sold = await sell(instance, upstream.url, 'attacks');
}, 60_000);
afterAll(async () => {
  await Promise.all([upstream?.close(), instance?.stop()]);
}, 60_000);

const tokenUrl = () => `${instance.info.api_url}/oauth/token`;
const meUrl = () => `${instance.info.api_url}/v1/agents/me`;
const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const now = () => Math.floor(Date.now() / 1000);
const basic = (id: string, secret: string) => ({
  authorization: `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString('base64')}`,
});
const askByAssertion = (assertion: string, fields: Record<string, string> = {}) =>
  postForm(instance, '/oauth/token', {
    grant_type: 'client_credentials',
    client_assertion_type: assertionType,
    client_assertion: assertion,
    ...fields,
  });
const meWith = (authorization: string, dpop?: string) =>
  send(meUrl(), { headers: { authorization, ...(dpop === undefined ? {} : { dpop }) } });
const boundToken = async () =>
  (
    await askToken(instance, client, {}, { dpop: await signProof(key, { method: 'POST', url: tokenUrl() }) })
  ).json().access_token as string;

const good = (token: string) => ({ method: 'GET', url: meUrl(), accessToken: token });

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
    expect((await meWith(`Bearer ${access_token}`)).status).toBe(401);
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

describe('a client assertion', () => {
  it('is good once', async () => {
    const assertion = await signAssertion(instance, client, key);
    expect((await askByAssertion(assertion)).status).toBe(200);
    expectError(await askByAssertion(assertion), 401, 'invalid_client');
  });

  it('used by many at once is good for one of them', async () => {
    const assertion = await signAssertion(instance, client, key);
    const answers = await Promise.all(Array.from({ length: 8 }, () => askByAssertion(assertion)));
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
      200,
      ...Array.from({ length: 7 }, () => 401),
    ]);
  });

  it.each<[string, () => Promise<string>]>([
    [
      'for another audience',
      () => signAssertion(instance, client, key, { claims: { aud: 'https://other.example' } }),
    ],
    [
      'for us and another',
      () =>
        signAssertion(instance, client, key, {
          claims: { aud: [instance.info.api_url, 'https://other.example'] },
        }),
    ],
    ['for nobody', () => signAssertion(instance, client, key, { claims: { aud: undefined } })],
    ['of another issuer', () => signAssertion(instance, client, key, { claims: { iss: 'cid_other' } })],
    ['that has expired', () => signAssertion(instance, client, key, { claims: { exp: now() - 1 } })],
    ['that lives for a day', () => signAssertion(instance, client, key, { claims: { exp: now() + 86_400 } })],
    ['of the future', () => signAssertion(instance, client, key, { claims: { iat: now() + 120 } })],
    ['without an expiry', () => signAssertion(instance, client, key, { claims: { exp: undefined } })],
    ['without an id', () => signAssertion(instance, client, key, { claims: { jti: undefined } })],
    [
      'of the type of access tokens',
      () => signAssertion(instance, client, key, { header: { typ: 'at+jwt' } }),
    ],
    [
      'of the type of DPoP proofs',
      () => signAssertion(instance, client, key, { header: { typ: 'dpop+jwt' } }),
    ],
    ['of another key', async () => signAssertion(instance, client, await newKey())],
    [
      'that brings its key',
      async () => {
        const own = await newKey();
        return signAssertion(instance, client, own, { header: { jwk: own.jwk } });
      },
    ],
    [
      'without a signature (alg none)',
      async () => {
        const [, claims] = (await signAssertion(instance, client, key)).split('.');
        return `${part({ alg: 'none' })}.${claims}.`;
      },
    ],
    [
      'signed with HMAC over the public key',
      async () => {
        const [, claims] = (await signAssertion(instance, client, key)).split('.');
        const input = `${part({ alg: 'HS256' })}.${claims}`;
        return `${input}.${createHmac('sha256', await exportSPKI(key.publicKey))
          .update(input)
          .digest('base64url')}`;
      },
    ],
    [
      'signed with HMAC over the client’s secret',
      async () => {
        const [, claims] = (await signAssertion(instance, client, key)).split('.');
        const input = `${part({ alg: 'HS256' })}.${claims}`;
        return `${input}.${createHmac('sha256', client.secret).update(input).digest('base64url')}`;
      },
    ],
    [
      'that says another algorithm than the key has',
      async () => {
        const [, claims, signature] = (await signAssertion(instance, client, key)).split('.');
        return `${part({ alg: 'RS256' })}.${claims}.${signature}`;
      },
    ],
    ['that is an access token of ours', async () => (await askToken(instance, client)).json().access_token],
  ])('%s is refused', async (_what, make) => {
    const own = await createClient(instance);
    expect(own.agentId).not.toBe(client.agentId);
    expectError(await askByAssertion(await make()), 401, 'invalid_client');
  });

  it('of another client is refused for the client_id beside it', async () => {
    const other = await createClient(instance);
    const assertion = await signAssertion(instance, client, key);
    expectError(await askByAssertion(assertion, { client_id: other.clientId }), 401, 'invalid_client');
  });

  it.each(['ES256', 'EdDSA', 'RS256'] as const)('with a registered key of %s is good', async (algorithm) => {
    const [own, ownKey] = [await createClient(instance), await newKey(algorithm)];
    await addKey(instance, own, ownKey);
    const claims = { aud: tokenUrl() };
    expect((await askByAssertion(await signAssertion(instance, own, ownKey, { claims }))).status).toBe(200);
  });
});

describe('a token that is bound to a key', () => {
  it('is accepted with a fresh proof of that key, by our API and by the gateway', async () => {
    const token = await boundToken();
    const proof = await signProof(key, { method: 'GET', url: meUrl(), accessToken: token });
    expect((await meWith(`DPoP ${token}`, proof)).status).toBe(200);
    const url = `${sold.url}/free`;
    const forGateway = await signProof(key, { method: 'GET', url, accessToken: token });
    expect((await send(url, { headers: { 'x-agent-id': token, dpop: forGateway } })).status).toBe(200);
  });

  it('is refused as Bearer, whatever else is sent', async () => {
    const token = await boundToken();
    const proof = await signProof(key, { method: 'GET', url: meUrl(), accessToken: token });
    for (const dpop of [undefined, proof]) {
      const answer = await meWith(`Bearer ${token}`, dpop);
      expect(answer.status).toBe(401);
      expect(answer.headers['www-authenticate']).toMatch(/^DPoP /);
    }
    const plain = await send(`${sold.url}/free`, { headers: { 'x-agent-id': token } });
    expect({ status: plain.status, code: plain.json().code }).toEqual({
      status: 401,
      code: 'agent_authentication_failed',
    });
    expect((await send(meUrl(), { headers: { 'x-api-key': token } })).status).toBe(401);
  });

  it('and one that is not bound do not pass for each other', async () => {
    const { access_token } = (await askToken(instance, client)).json();
    const proof = await signProof(key, { method: 'GET', url: meUrl(), accessToken: access_token });
    expect((await meWith(`DPoP ${access_token}`, proof)).status).toBe(401);
    expect((await meWith(`Bearer ${access_token}`)).status).toBe(200);
  });

  it.each<[string, (token: string) => Promise<string | undefined>]>([
    ['none', async () => undefined],
    ['one of another key', async (token) => signProof(await newKey(), good(token))],
    ['one for another method', (token) => signProof(key, { ...good(token), method: 'POST' })],
    ['one for another path', (token) => signProof(key, { ...good(token), url: `${meUrl()}/usage` })],
    [
      'one for another host',
      (token) => signProof(key, { ...good(token), url: 'http://evil.example/v1/agents/me' }),
    ],
    ['one without the token', () => signProof(key, { method: 'GET', url: meUrl() })],
    ['one of another token', async () => signProof(key, good(await boundToken()))],
    ['one of an hour ago', (token) => signProof(key, good(token), { claims: { iat: now() - 3600 } })],
    ['one of the future', (token) => signProof(key, good(token), { claims: { iat: now() + 120 } })],
    ['one without an id', (token) => signProof(key, good(token), { claims: { jti: undefined } })],
    ['one of the type JWT', (token) => signProof(key, good(token), { header: { typ: 'JWT' } })],
    [
      'one of the type of access tokens',
      (token) => signProof(key, good(token), { header: { typ: 'at+jwt' } }),
    ],
    [
      'one with a private key in it',
      (token) => signProof(key, good(token), { header: { jwk: { ...key.jwk, d: 'AAAA' } } }),
    ],
    [
      'one with the public key of another',
      async (token) => signProof(await newKey(), good(token), { header: { jwk: key.jwk } }),
    ],
    ['one without a key', (token) => signProof(key, good(token), { header: { jwk: undefined } })],
    ['the token itself', async (token) => token],
    ['no JWT', async () => 'proof'],
  ])('is refused with a proof that is %s', async (_what, make) => {
    const token = await boundToken();
    const answer = await meWith(`DPoP ${token}`, await make(token));
    expect(answer.status).toBe(401);
    expect(answer.headers['www-authenticate']).toMatch(/^DPoP error="/);
  });

  it('is refused with a proof that was used, at the same place or at the token endpoint', async () => {
    const token = await boundToken();
    const proof = await signProof(key, good(token));
    const answers = await Promise.all(Array.from({ length: 6 }, () => meWith(`DPoP ${token}`, proof)));
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
      200, 401, 401, 401, 401, 401,
    ]);
    const forToken = await signProof(key, { method: 'POST', url: tokenUrl() });
    expect((await askToken(instance, client, {}, { dpop: forToken })).status).toBe(200);
    expectError(await askToken(instance, client, {}, { dpop: forToken }), 400, 'invalid_dpop_proof');
  });

  it('is no credential: neither it nor a proof is an assertion', async () => {
    const proof = await signProof(key, { method: 'POST', url: tokenUrl() });
    for (const text of [await boundToken(), proof])
      expectError(await askByAssertion(text), 401, 'invalid_client');
  });
});

/** A scope as long as one may be. */
const word = (index: number) => String(index).padStart(2, '0').padEnd(200, 'x');

const introspect = async (token: string) =>
  (await postForm(instance, '/oauth/introspect', { token }, { 'x-api-key': instance.info.api_key })).json();

describe('what is made for one place', () => {
  const verifier = 'https://shop.example';
  /** One of each kind, good where it belongs. */
  const makers: Record<string, () => Promise<string>> = {
    'an access token': async () => (await askToken(instance, client)).json().access_token,
    'an access token that is bound': boundToken,
    'a refresh token': async () => (await askToken(instance, client)).json().refresh_token,
    'a credential': async () => {
      const credential = (await askToken(instance, client)).json().access_token as string;
      const body = { challenge: 'c', audience: verifier };
      return (await callApi(instance, '/agent/vc/issue', { body, credential })).json().vc;
    },
    'a credential for us': async () => {
      const credential = (await askToken(instance, client)).json().access_token as string;
      const body = { challenge: 'c', audience: instance.info.api_url };
      return (await callApi(instance, '/agent/vc/issue', { body, credential })).json().vc;
    },
    'a proof': () => signProof(key, { method: 'POST', url: tokenUrl() }),
    'a client assertion': () => signAssertion(instance, client, key),
    'a secret': async () => client.secret,
  };
  /** Whether it is taken there. */
  const places: Record<string, (text: string) => Promise<boolean>> = {
    'as a bearer': async (text) => (await meWith(`Bearer ${text}`)).status === 200,
    'as a bound token': async (text) => {
      const proof = await signProof(key, good(text));
      return (await meWith(`DPoP ${text}`, proof)).status === 200;
    },
    'as a proof': async (dpop) => (await askToken(instance, client, {}, { dpop })).status === 200,
    'as a client assertion': async (text) => (await askByAssertion(text)).status === 200,
    'as a client secret': async (text) =>
      (await askToken(instance, { ...client, secret: text })).status === 200,
    'as a refresh token': async (text) =>
      (await postForm(instance, '/oauth/refresh', { refresh_token: text })).status === 200,
    'as a token to introspect': async (text) => (await introspect(text)).active,
    'as a credential': async (vc) => {
      const body = { vc, challenge: 'c', audience: verifier };
      return (await callApi(instance, '/verify-vc', { body })).json().valid;
    },
    'as a credential for us': async (vc) => {
      const body = { vc, challenge: 'c', audience: instance.info.api_url };
      return (await callApi(instance, '/verify-vc', { body })).json().valid;
    },
    'as a token at the gateway': async (text) =>
      (await send(`${sold.url}/free`, { headers: { 'x-agent-id': text } })).status === 200,
  };
  const belongs: Record<string, readonly string[]> = {
    'an access token': ['as a bearer', 'as a token to introspect', 'as a token at the gateway'],
    'an access token that is bound': ['as a bound token', 'as a token to introspect'],
    'a refresh token': ['as a refresh token', 'as a token to introspect'],
    'a credential': ['as a credential'],
    'a credential for us': ['as a credential for us'],
    'a proof': ['as a proof'],
    'a client assertion': ['as a client assertion'],
    'a secret': ['as a client secret'],
  };

  it.each(Object.keys(makers))('is taken nowhere else: %s', async (kind) => {
    const taken: string[] = [];
    for (const [place, isTaken] of Object.entries(places))
      if (await isTaken((await makers[kind]?.()) ?? '')) taken.push(place);
    expect(taken).toEqual(belongs[kind]);
  });
});

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
    expect((await meWith(`Bearer ${token}`)).status).toBe(200);
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
    expect((await meWith(`Bearer ${token}`)).status).toBe(200);
    expect((await end(client, 'nonsense')).status).toBe(200);
    expect((await end(client, token)).status).toBe(200);
    expect((await meWith(`Bearer ${token}`)).status).toBe(401);
    // The family goes on: only this token was ended.
    expect((await askToken(instance, client, { grant_type: 'refresh_token', refresh_token })).status).toBe(
      200,
    );
  });
});

function expectError(answer: Answer, status: number, error: string): void {
  expect({ status: answer.status, error: answer.json().error }).toEqual({ status, error });
}
