import { createHmac, type KeyObject, sign } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, type JSONWebKeySet } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stealPrivateKey } from '../../src/identity/signing-keys/signing-keys.fixture.ts';
import { openTestDatabase, testContext } from '../helpers/database.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askToken, createClient, newKey, type OAuthClient, postForm } from '../helpers/oauth.ts';
import { send } from '../helpers/request.ts';
import { callApi, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

/** What an attacker could do at best: sign with our own key whatever else it makes up. Each of it is shown at every door that stands open. */
let instance: Instance;
let client: OAuthClient;
let upstream: Upstream;
let sold: Sold;
let accessToken: string;
let credential: string;
let ours: KeyObject;
let pem: string;
const demands = { challenge: 'a challenge', audience: 'https://shop.example' };
beforeAll(async () => {
  const { db, url } = await openTestDatabase();
  instance = await startInstance({ env: { DATABASE_URL: url, CREDENCE_MASTER_KEY: '07'.repeat(32) } });
  client = await createClient(instance);
  upstream = await startUpstream((_, response) => response.end('answered'));
  sold = await sell(instance, upstream.url, 'forged');
  accessToken = (await askToken(instance, client)).json().access_token;
  credential = (await callApi(instance, '/agent/vc/issue', { body: demands, credential: accessToken })).json()
    .vc;
  ours = await stealPrivateKey(testContext(db), decodeProtectedHeader(accessToken).kid ?? '');
  pem = (await send(`${instance.info.api_url}/public-key.pem`)).text;
}, 60_000);
afterAll(() => Promise.all([upstream?.close(), instance?.stop()]), 60_000);

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const byOurKey = (input: string) => sign('sha256', Buffer.from(input), ours).toString('base64url');

type Sign = (input: string) => string;
interface Forgery {
  header?: object;
  claims?: object;
  /** By our own key unless it says otherwise. */
  sign?: Sign;
}

/** A good one, with what the forgery says in its place. */
function forge(good: string, { header, claims, sign: by = byOurKey }: Forgery): string {
  const input = [
    { ...decodeProtectedHeader(good), ...header },
    { ...decodeJwt(good), ...claims },
  ]
    .map(part)
    .join('.');
  return `${input}.${by(input)}`;
}

const seconds = (from: number) => Math.floor(Date.now() / 1000) + from;
const hmacOver = (key: string) => (input: string) =>
  createHmac('sha256', key).update(input).digest('base64url');

/** What no token may have, whatever it is for. */
const forgeries: [string, () => Forgery | Promise<Forgery>][] = [
  ['without a signature (alg none)', () => ({ header: { alg: 'none' }, sign: () => '' })],
  ['with alg none, signed', () => ({ header: { alg: 'none' } })],
  ['of HS256 over our public key', () => ({ header: { alg: 'HS256' }, sign: hmacOver(pem) })],
  ['of HS256 over our public key, trimmed', () => ({ header: { alg: 'HS256' }, sign: hmacOver(pem.trim()) })],
  [
    'of HS256 over our published key',
    async () => {
      const { keys } = (await send(`${instance.info.api_url}/.well-known/jwks.json`)).json() as JSONWebKeySet;
      return { header: { alg: 'HS256' }, sign: hmacOver(JSON.stringify(keys[0])) };
    },
  ],
  ['of HMAC under the name of RS256', () => ({ sign: hmacOver(pem) })],
  ['of the type of receipts', () => ({ header: { typ: 'decision+jwt' } })],
  ['of the type of DPoP proofs', () => ({ header: { typ: 'dpop+jwt' } })],
  ['of the type JWT', () => ({ header: { typ: 'JWT' } })],
  ['without a type', () => ({ header: { typ: undefined } })],
  ['for another audience', () => ({ claims: { aud: 'https://elsewhere.example' } })],
  ['of another issuer', () => ({ claims: { iss: 'https://elsewhere.example' } })],
  ['that has expired', () => ({ claims: { iat: seconds(-7200), exp: seconds(-3600) } })],
  ['of the future', () => ({ claims: { iat: seconds(3600), exp: seconds(7200) } })],
  ['that isn’t valid yet', () => ({ claims: { nbf: seconds(3600) } })],
  ['of an unknown key', () => ({ header: { kid: 'unknown' } })],
  [
    'of a key that it brings along',
    async () => {
      const own = await newKey('RS256');
      const by: Sign = (input) => sign('sha256', Buffer.from(input), own.privateKey).toString('base64url');
      return { header: { jwk: own.jwk, kid: undefined }, sign: by };
    },
  ],
  ['with an extension that it calls critical', () => ({ header: { crit: ['exp'] } })],
];

/** Where an access token lets somebody in, or is told to be good. */
async function doorsOpenTo(token: string): Promise<string[]> {
  const self = { client_id: client.clientId, client_secret: client.secret };
  const about = await postForm(instance, '/oauth/introspect', { ...self, token });
  const open = {
    'the API': (await callApi(instance, '/v1/agents/me', { credential: token })).status === 200,
    'X-API-Key':
      (await send(`${instance.info.api_url}/v1/agents/me`, { headers: { 'x-api-key': token } })).status ===
      200,
    'the gateway': (await send(`${sold.url}/free`, { headers: { 'x-agent-id': token } })).status === 200,
    introspection: about.text !== '{"active":false}',
  };
  return Object.entries(open).flatMap(([door, isOpen]) => (isOpen ? [door] : []));
}

/** Whether we take a credential, for a verifier that asks us. */
const isTaken = async (vc: string) =>
  (await callApi(instance, '/verify-vc', { body: { vc, ...demands } })).json().valid as boolean;

describe('an access token', () => {
  it('that is signed again as it was is good everywhere: the forger’s hand is right', async () => {
    const again = forge(accessToken, {});
    expect(again).toBe(accessToken);
    expect(await doorsOpenTo(again)).toEqual(['the API', 'X-API-Key', 'the gateway', 'introspection']);
  });

  it.each([
    ...forgeries,
    ['of the type of credentials', () => ({ header: { typ: 'vc+jwt' } })],
  ] as typeof forgeries)('%s is good nowhere', async (_, make) => {
    expect(await doorsOpenTo(forge(accessToken, await make()))).toEqual([]);
  });
});

describe('a credential', () => {
  it('that is signed again as it was is good: the forger’s hand is right', async () => {
    expect(await isTaken(forge(credential, {}))).toBe(true);
  });

  it.each([
    ...forgeries,
    ['of the type of access tokens', () => ({ header: { typ: 'at+jwt' } })],
    ['for another challenge', () => ({ claims: { challenge: 'another' } })],
    ['for two audiences', () => ({ claims: { aud: [demands.audience, 'https://elsewhere.example'] } })],
  ] as typeof forgeries)('%s is refused', async (_, make) => {
    expect(await isTaken(forge(credential, await make()))).toBe(false);
  });
});
