import { createPublicKey } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import express from 'express';
import { auth, type AuthOptions } from 'express-oauth2-jwt-bearer';
import { createVerifier, type DecodedJwt } from 'fast-jwt';
import { createRemoteJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Algorithm } from '../../src/identity/signing-keys/signing-key.ts';
import { type Agent, registerAgent } from '../helpers/agent.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { send } from '../helpers/request.ts';
import { callApi } from '../helpers/seller.ts';

let instance: Instance;
let agent: Agent;
beforeAll(async () => {
  instance = await startInstance();
  agent = await registerAgent(instance);
});
afterAll(() => instance?.stop());

const jwksUrl = () => `${instance.info.api_url}/.well-known/jwks.json`;

/** An API of somebody else's, which express-oauth2-jwt-bearer guards. */
async function openApi(rules: AuthOptions) {
  const api = express();
  api.use(auth(rules));
  api.get('/', (_request, response) => void response.type('text').send('in'));
  const server = api.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  return {
    async call(token: string) {
      const answer = await send(url, { headers: { authorization: `Bearer ${token}` } });
      return [answer.status, answer.status === 200 ? answer.text : answer.headers['www-authenticate']];
    },
    async [Symbol.asyncDispose]() {
      server.close();
    },
  };
}

/** fast-jwt with the keys that an instance publishes. */
function fastVerifier(url: string, algorithm: Algorithm) {
  return createVerifier({
    key: async ({ header }: DecodedJwt) => {
      const { keys } = (await send(`${url}/.well-known/jwks.json`)).json() as JSONWebKeySet;
      const key = keys.find(({ kid }) => kid === header['kid']);
      if (!key) throw new Error('no such key');
      return createPublicKey({ key, format: 'jwk' }).export({ format: 'pem', type: 'spki' });
    },
    algorithms: [algorithm],
    allowedIss: url,
    allowedAud: url,
    checkTyp: 'at+jwt',
  });
}

describe('the published keys', () => {
  it('verify our tokens for jose, which fetches them', async () => {
    const { payload } = await jwtVerify(agent.jwt, createRemoteJWKSet(new URL(jwksUrl())), {
      issuer: instance.info.api_url,
      audience: instance.info.api_url,
      typ: 'at+jwt',
    });
    expect(payload).toMatchObject({ sub: agent.agent_id, agent_id: agent.agent_id });
  });

  it('verify our tokens for fast-jwt, as PEM', async () => {
    const answer = await send(`${instance.info.api_url}/public-key.pem`);
    expect(answer).toMatchObject({
      status: 200,
      headers: { 'content-type': 'application/x-pem-file', 'cache-control': 'public, max-age=300' },
    });
    const verify = createVerifier({
      key: answer.text,
      algorithms: ['RS256'],
      allowedIss: instance.info.api_url,
      allowedAud: instance.info.api_url,
      checkTyp: 'at+jwt',
    });
    expect(verify(agent.jwt)).toMatchObject({ sub: agent.agent_id });
    const spoilt = agent.jwt.replace(/\.(?=[^.]*$)./, (end) => (end === '.A' ? '.B' : '.A'));
    expect(() => verify(spoilt)).toThrow('signature');
  });

  it('verify our tokens for fast-jwt, from the JWKS', async () => {
    const verify = fastVerifier(instance.info.api_url, 'RS256');
    expect(await verify(agent.jwt)).toMatchObject({ sub: agent.agent_id });
    const spoilt = agent.jwt.replace(/\.(?=[^.]*$)./, (end) => (end === '.A' ? '.B' : '.A'));
    await expect(verify(spoilt)).rejects.toThrow('signature');
    const body = { challenge: 'c', audience: instance.info.api_url };
    const { vc } = (await callApi(instance, '/agent/vc/issue', { body, credential: agent.jwt })).json();
    await expect(verify(vc)).rejects.toThrow('typ');
  });

  it.each<[string, () => AuthOptions]>([
    ['that knows where they are', () => ({ issuer: instance.info.api_url, jwksUri: jwksUrl() })],
    ['that discovers them', () => ({ issuerBaseURL: instance.info.api_url })],
  ])('verify our tokens for express-oauth2-jwt-bearer %s, by the rules of RFC 9068', async (_, rules) => {
    const audience = instance.info.api_url;
    await using api = await openApi({ ...rules(), audience, strict: true });
    expect(await api.call(agent.jwt)).toEqual([200, 'in']);
    const body = { challenge: 'c', audience };
    const issued = await callApi(instance, '/agent/vc/issue', { body, credential: agent.jwt });
    const { vc } = issued.json() as { vc: string };
    expect(await api.call(vc)).toEqual([401, expect.stringContaining("'typ'")]);
  });
});

describe('an instance that signs everything with', () => {
  it.each<Algorithm>(['ES256', 'EdDSA'])(
    '%s has its tokens and its credentials verified by stock libraries',
    async (algorithm) => {
      const env = { CREDENCE_TOKEN_ALGORITHM: algorithm, CREDENCE_CREDENTIAL_ALGORITHM: algorithm };
      const other = await startInstance({ env });
      try {
        const issuer = other.info.api_url;
        const { agent_id, jwt } = await registerAgent(other);
        await using api = await openApi({ issuerBaseURL: issuer, audience: issuer, strict: true });
        expect(await api.call(jwt)).toEqual([200, 'in']);
        expect(await fastVerifier(issuer, algorithm)(jwt)).toMatchObject({ sub: agent_id });
        const jwks = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`));
        await jwtVerify(jwt, jwks, { issuer, audience: issuer, typ: 'at+jwt', algorithms: [algorithm] });
        const demands = { challenge: 'c', audience: 'https://shop.example' };
        const { vc } = (await callApi(other, '/agent/vc/issue', { body: demands, credential: jwt })).json();
        const { audience } = demands;
        const verified = await jwtVerify(vc, jwks, {
          issuer,
          audience,
          typ: 'vc+jwt',
          algorithms: [algorithm],
        });
        expect(verified.payload.sub).toBe(agent_id);
      } finally {
        await other.stop();
      }
    },
    60_000,
  );
});
