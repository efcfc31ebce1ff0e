import { createHmac } from 'node:crypto';
import { exportSPKI } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Instance } from '../helpers/instance.ts';
import {
  addKey,
  askToken,
  type ClientKey,
  createClient,
  newKey,
  type OAuthClient,
  postForm,
  signAssertion,
  signProof,
} from '../helpers/oauth.ts';
import { expectError, type OAuthScene, openOAuthScene } from '../helpers/oauth-scene.ts';
import { send } from '../helpers/request.ts';
import { callApi, type Sold } from '../helpers/seller.ts';

let scene: OAuthScene;
let instance: Instance;
let client: OAuthClient;
let key: ClientKey;
let sold: Sold;
beforeAll(async () => {
  scene = await openOAuthScene();
  ({ instance, client, key, sold } = scene);
}, 60_000);
afterAll(() => scene?.close(), 60_000);

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const now = () => Math.floor(Date.now() / 1000);
const good = (token: string) => ({ method: 'GET', url: scene.meUrl, accessToken: token });

describe('a client assertion', () => {
  it('is good once', async () => {
    const assertion = await signAssertion(instance, client, key);
    expect((await scene.askByAssertion(assertion)).status).toBe(200);
    expectError(await scene.askByAssertion(assertion), 401, 'invalid_client');
  });

  it('used by many at once is good for one of them', async () => {
    const assertion = await signAssertion(instance, client, key);
    const answers = await Promise.all(Array.from({ length: 8 }, () => scene.askByAssertion(assertion)));
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
    expectError(await scene.askByAssertion(await make()), 401, 'invalid_client');
  });

  it('of another client is refused for the client_id beside it', async () => {
    const other = await createClient(instance);
    const assertion = await signAssertion(instance, client, key);
    expectError(await scene.askByAssertion(assertion, { client_id: other.clientId }), 401, 'invalid_client');
  });

  it.each(['ES256', 'EdDSA', 'RS256'] as const)('with a registered key of %s is good', async (algorithm) => {
    const [own, ownKey] = [await createClient(instance), await newKey(algorithm)];
    await addKey(instance, own, ownKey);
    const claims = { aud: scene.tokenUrl };
    expect((await scene.askByAssertion(await signAssertion(instance, own, ownKey, { claims }))).status).toBe(
      200,
    );
  });
});

describe('a token that is bound to a key', () => {
  it('is accepted with a fresh proof of that key, by our API and by the gateway', async () => {
    const token = await scene.boundToken();
    const proof = await signProof(key, { method: 'GET', url: scene.meUrl, accessToken: token });
    expect((await scene.meWith(`DPoP ${token}`, proof)).status).toBe(200);
    const url = `${sold.url}/free`;
    const forGateway = await signProof(key, { method: 'GET', url, accessToken: token });
    expect((await send(url, { headers: { 'x-agent-id': token, dpop: forGateway } })).status).toBe(200);
  });

  it('is refused as Bearer, whatever else is sent', async () => {
    const token = await scene.boundToken();
    const proof = await signProof(key, { method: 'GET', url: scene.meUrl, accessToken: token });
    for (const dpop of [undefined, proof]) {
      const answer = await scene.meWith(`Bearer ${token}`, dpop);
      expect(answer.status).toBe(401);
      expect(answer.headers['www-authenticate']).toMatch(/^DPoP /);
    }
    const plain = await send(`${sold.url}/free`, { headers: { 'x-agent-id': token } });
    expect({ status: plain.status, code: plain.json().code }).toEqual({
      status: 401,
      code: 'agent_authentication_failed',
    });
    expect((await send(scene.meUrl, { headers: { 'x-api-key': token } })).status).toBe(401);
  });

  it('and one that is not bound do not pass for each other', async () => {
    const { access_token } = (await askToken(instance, client)).json();
    const proof = await signProof(key, { method: 'GET', url: scene.meUrl, accessToken: access_token });
    expect((await scene.meWith(`DPoP ${access_token}`, proof)).status).toBe(401);
    expect((await scene.meWith(`Bearer ${access_token}`)).status).toBe(200);
  });

  it.each<[string, (token: string) => Promise<string | undefined>]>([
    ['none', async () => undefined],
    ['one of another key', async (token) => signProof(await newKey(), good(token))],
    ['one for another method', (token) => signProof(key, { ...good(token), method: 'POST' })],
    ['one for another path', (token) => signProof(key, { ...good(token), url: `${scene.meUrl}/usage` })],
    [
      'one for another host',
      (token) => signProof(key, { ...good(token), url: 'http://evil.example/v1/agents/me' }),
    ],
    ['one without the token', () => signProof(key, { method: 'GET', url: scene.meUrl })],
    ['one of another token', async () => signProof(key, good(await scene.boundToken()))],
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
    const token = await scene.boundToken();
    const answer = await scene.meWith(`DPoP ${token}`, await make(token));
    expect(answer.status).toBe(401);
    expect(answer.headers['www-authenticate']).toMatch(/^DPoP error="/);
  });

  it('is refused with a proof that was used, at the same place or at the token endpoint', async () => {
    const token = await scene.boundToken();
    const proof = await signProof(key, good(token));
    const answers = await Promise.all(Array.from({ length: 6 }, () => scene.meWith(`DPoP ${token}`, proof)));
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
      200, 401, 401, 401, 401, 401,
    ]);
    const forToken = await signProof(key, { method: 'POST', url: scene.tokenUrl });
    expect((await askToken(instance, client, {}, { dpop: forToken })).status).toBe(200);
    expectError(await askToken(instance, client, {}, { dpop: forToken }), 400, 'invalid_dpop_proof');
  });

  it('is no credential: neither it nor a proof is an assertion', async () => {
    const proof = await signProof(key, { method: 'POST', url: scene.tokenUrl });
    for (const text of [await scene.boundToken(), proof])
      expectError(await scene.askByAssertion(text), 401, 'invalid_client');
  });
});

const introspect = async (token: string) =>
  (await postForm(instance, '/oauth/introspect', { token }, { 'x-api-key': instance.info.api_key })).json();

describe('what is made for one place', () => {
  const verifier = 'https://shop.example';
  /** One of each kind, good where it belongs. */
  const makers: Record<string, () => Promise<string>> = {
    'an access token': async () => (await askToken(instance, client)).json().access_token,
    'an access token that is bound': () => scene.boundToken(),
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
    'a proof': () => signProof(key, { method: 'POST', url: scene.tokenUrl }),
    'a client assertion': () => signAssertion(instance, client, key),
    'a secret': async () => client.secret,
  };
  /** Whether it is taken there. */
  const places: Record<string, (text: string) => Promise<boolean>> = {
    'as a bearer': async (text) => (await scene.meWith(`Bearer ${text}`)).status === 200,
    'as a bound token': async (text) => {
      const proof = await signProof(key, good(text));
      return (await scene.meWith(`DPoP ${text}`, proof)).status === 200;
    },
    'as a proof': async (dpop) => (await askToken(instance, client, {}, { dpop })).status === 200,
    'as a client assertion': async (text) => (await scene.askByAssertion(text)).status === 200,
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
