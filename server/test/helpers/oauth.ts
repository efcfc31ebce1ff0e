import { createHash, generateKeyPairSync, type KeyObject, randomInt, randomUUID } from 'node:crypto';
import { calculateJwkThumbprint, exportJWK, type JWK, SignJWT } from 'jose';
import type { Instance } from './instance.ts';
import { type Answer, send } from './request.ts';
import { callApi } from './seller.ts';

/** An agent that an owner created: a confidential client. */
export interface OAuthClient {
  agentId: string;
  clientId: string;
  secret: string;
}

export async function createClient(
  instance: Instance,
  body: Record<string, unknown> = {},
): Promise<OAuthClient> {
  const answer = await callApi(instance, '/v1/agents', {
    body: { name: 'Test client', scopes: ['read', 'write'], ...body },
    credential: instance.info.api_key,
  });
  if (answer.status !== 201) throw new Error(`no agent: ${answer.text}`);
  const { id, client_id, client_secret } = answer.json();
  return { agentId: id, clientId: client_id, secret: client_secret };
}

/** A loopback address that nobody else calls from: who fails often from one address has to wait. */
function newAddress(): string {
  return `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`;
}

/** Sends a form, as stock clients do. A parameter may be a list: it is then sent several times. */
export function postForm(
  instance: Instance,
  path: string,
  fields: Record<string, string | string[]>,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const pairs = Object.entries(fields).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  return send(`${instance.info.api_url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    body: new URLSearchParams(pairs).toString(),
    from: newAddress(),
  });
}

/** `client_secret_post`, unless the fields say otherwise. */
export function askToken(
  instance: Instance,
  client: OAuthClient,
  fields: Record<string, string | string[]> = {},
  headers: Record<string, string> = {},
): Promise<Answer> {
  return postForm(
    instance,
    '/oauth/token',
    {
      grant_type: 'client_credentials',
      client_id: client.clientId,
      client_secret: client.secret,
      ...fields,
    },
    headers,
  );
}

/** A key pair of a client's own. */
export interface ClientKey {
  privateKey: KeyObject;
  publicKey: KeyObject;
  jwk: JWK;
  thumbprint: string;
  algorithm: 'ES256' | 'EdDSA' | 'RS256';
}

export async function newKey(algorithm: ClientKey['algorithm'] = 'ES256'): Promise<ClientKey> {
  const pair = {
    ES256: () => generateKeyPairSync('ec', { namedCurve: 'P-256' }),
    EdDSA: () => generateKeyPairSync('ed25519'),
    RS256: () => generateKeyPairSync('rsa', { modulusLength: 2048 }),
  }[algorithm]();
  const jwk = await exportJWK(pair.publicKey);
  return { ...pair, jwk, thumbprint: await calculateJwkThumbprint(jwk), algorithm };
}

/** Registers the key as a credential of the agent. */
export async function addKey(instance: Instance, client: OAuthClient, key: ClientKey): Promise<void> {
  const answer = await callApi(instance, `/v1/agents/${client.agentId}/credentials`, {
    body: { type: 'public_key', public_key: key.jwk },
    credential: instance.info.api_key,
  });
  if (answer.status !== 201) throw new Error(`no credential: ${answer.text}`);
}

export const assertionType = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer';

/** A client assertion (RFC 7523); `claims` and `header` override what a good one has. */
export function signAssertion(
  instance: Instance,
  client: OAuthClient,
  key: ClientKey,
  overrides: { claims?: Record<string, unknown>; header?: Record<string, unknown> } = {},
): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const claims = {
    iss: client.clientId,
    sub: client.clientId,
    aud: instance.info.api_url,
    jti: randomUUID(),
    iat: now,
    exp: now + 60,
    ...overrides.claims,
  };
  return new SignJWT(claims)
    .setProtectedHeader({ alg: key.algorithm, ...overrides.header })
    .sign(key.privateKey);
}

/** A proof of possession (RFC 9449); `claims` and `header` override what a good one has. */
export function signProof(
  key: ClientKey,
  request: { method: string; url: string; accessToken?: string; nonce?: string },
  overrides: { claims?: Record<string, unknown>; header?: Record<string, unknown> } = {},
): Promise<string> {
  const { method, url, accessToken, nonce } = request;
  const claims = {
    jti: randomUUID(),
    htm: method,
    htu: url,
    iat: Math.floor(Date.now() / 1000),
    ...(accessToken === undefined
      ? {}
      : { ath: createHash('sha256').update(accessToken).digest('base64url') }),
    ...(nonce === undefined ? {} : { nonce }),
    ...overrides.claims,
  };
  return new SignJWT(claims)
    .setProtectedHeader({ alg: key.algorithm, typ: 'dpop+jwt', jwk: key.jwk, ...overrides.header })
    .sign(key.privateKey);
}
