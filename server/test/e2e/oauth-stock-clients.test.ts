import type { webcrypto } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import {
  ClientCredentialsProvider,
  PrivateKeyJwtProvider,
} from '@modelcontextprotocol/sdk/client/auth-extensions.js';
import { auth } from '@modelcontextprotocol/sdk/client/auth.js';
import express from 'express';
import { exportJWK } from 'jose';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Instance, startInstance } from '../helpers/instance.ts';
import {
  addKey,
  askToken,
  type ClientKey,
  createClient,
  newKey,
  type OAuthClient,
} from '../helpers/oauth.ts';
import { callApi } from '../helpers/seller.ts';

/** Requests over loopback have no TLS; everything else is as these clients do it. */
describe('stock OAuth clients', { timeout: 30_000 }, () => {
  let instance: Instance;
  let client: OAuthClient;
  let key: ClientKey;
  let privateKey: CryptoKey;

  beforeAll(async () => {
    instance = await startInstance();
    client = await createClient(instance);
    key = await newKey('ES256');
    await addKey(instance, client, key);
    privateKey = await crypto.subtle.importKey(
      'jwk',
      { ...(await exportJWK(key.privateKey)), ext: true } as webcrypto.JsonWebKey,
      { name: 'ECDSA', namedCurve: 'P-256' },
      false,
      ['sign'],
    );
  }, 60_000);
  afterAll(async () => {
    await instance?.stop();
  }, 60_000);

  const me = async (token: string) =>
    (await callApi(instance, '/v1/agents/me', { credential: token })).json();

  it.each(['oidc', 'oauth2'] as const)(
    'oauth4webapi discovers the server (%s) and gets a token, refreshes, introspects and revokes it',
    async (algorithm) => {
      const insecure = { [oauth.allowInsecureRequests]: true };
      const issuer = new URL(instance.info.api_url);
      const discovered = await oauth.discoveryRequest(issuer, { algorithm, ...insecure });
      const server = await oauth.processDiscoveryResponse(issuer, discovered);
      const self = { client_id: client.clientId };
      for (const authentication of [
        oauth.ClientSecretBasic(client.secret),
        oauth.ClientSecretPost(client.secret),
        oauth.PrivateKeyJwt({ key: privateKey }),
      ]) {
        const response = await oauth.clientCredentialsGrantRequest(
          server,
          self,
          authentication,
          new URLSearchParams({ scope: 'read' }),
          insecure,
        );
        const granted = await oauth.processClientCredentialsResponse(server, self, response);
        expect(granted).toMatchObject({ token_type: 'bearer', expires_in: 3600, scope: 'read' });
        expect(await me(granted.access_token)).toMatchObject({ id: client.agentId });

        const refreshed = await oauth.processRefreshTokenResponse(
          server,
          self,
          await oauth.refreshTokenGrantRequest(
            server,
            self,
            authentication,
            granted.refresh_token ?? '',
            insecure,
          ),
        );
        expect(refreshed.refresh_token).not.toBe(granted.refresh_token);
        const introspect = async (token: string) =>
          oauth.processIntrospectionResponse(
            server,
            self,
            await oauth.introspectionRequest(server, self, authentication, token, insecure),
          );
        expect(await introspect(refreshed.access_token)).toMatchObject({
          active: true,
          client_id: client.clientId,
        });
        const revocation = await oauth.revocationRequest(
          server,
          self,
          authentication,
          refreshed.refresh_token ?? '',
          insecure,
        );
        await oauth.processRevocationResponse(revocation);
        expect(await introspect(refreshed.access_token)).toEqual({ active: false });
      }
    },
  );

  it('oauth4webapi calls our API with a token that is bound to its key', async () => {
    const insecure = { [oauth.allowInsecureRequests]: true };
    const issuer = new URL(instance.info.api_url);
    const server = await oauth.processDiscoveryResponse(
      issuer,
      await oauth.discoveryRequest(issuer, insecure),
    );
    const self = { client_id: client.clientId };
    const DPoP = oauth.DPoP({}, await oauth.generateKeyPair('ES256'));
    const response = await oauth.clientCredentialsGrantRequest(
      server,
      self,
      oauth.ClientSecretPost(client.secret),
      {},
      { ...insecure, DPoP },
    );
    const granted = await oauth.processClientCredentialsResponse(server, self, response);
    expect(granted.token_type).toBe('dpop');
    const url = new URL(`${instance.info.api_url}/api/agents/me`);
    const answer = await oauth.protectedResourceRequest(
      granted.access_token,
      'GET',
      url,
      undefined,
      undefined,
      {
        ...insecure,
        DPoP,
      },
    );
    expect(await answer.json()).toMatchObject({ id: client.agentId });
  });

  it.each([
    ['a secret', () => openid.ClientSecretBasic(client.secret)],
    ['a key', () => openid.PrivateKeyJwt(privateKey)],
  ])('openid-client discovers the server and gets a token with %s', async (_what, authentication) => {
    const server = await openid.discovery(
      new URL(instance.info.api_url),
      client.clientId,
      undefined,
      authentication(),
      { execute: [openid.allowInsecureRequests] },
    );
    const granted = await openid.clientCredentialsGrant(server, { scope: 'read write' });
    expect(granted).toMatchObject({ scope: 'read write' });
    expect(await me(granted.access_token)).toMatchObject({ id: client.agentId });
    const refreshed = await openid.refreshTokenGrant(server, granted.refresh_token ?? '');
    expect(await me(refreshed.access_token)).toMatchObject({ id: client.agentId });
  });

  it('openid-client binds its tokens to a key, and introspects and revokes them', async () => {
    const server = await openid.discovery(
      new URL(instance.info.api_url),
      client.clientId,
      undefined,
      openid.ClientSecretPost(client.secret),
      { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] },
    );
    const DPoP = openid.getDPoPHandle(server, await openid.randomDPoPKeyPair());
    const granted = await openid.clientCredentialsGrant(server, {}, { DPoP });
    const refreshed = await openid.refreshTokenGrant(server, granted.refresh_token ?? '', {}, { DPoP });
    const url = new URL(`${instance.info.api_url}/v1/agents/me`);
    for (const { access_token } of [granted, refreshed]) {
      const answer = await openid.fetchProtectedResource(
        server,
        access_token,
        url,
        'GET',
        undefined,
        undefined,
        { DPoP },
      );
      expect(await answer.json()).toMatchObject({ id: client.agentId });
      expect(await openid.tokenIntrospection(server, access_token)).toMatchObject({ active: true });
    }
    await openid.tokenRevocation(server, refreshed.refresh_token ?? '');
    expect(await openid.tokenIntrospection(server, refreshed.access_token)).toEqual({ active: false });
  });

  it('auth() of the MCP SDK gets tokens for somebody else’s API, and refreshes them; oauth4webapi lets them in there', async () => {
    await using api = await openThirdParty(instance.info.api_url);
    const body = { identifier: api.resource, name: 'Somebody’s MCP server', scopes: ['read'] };
    const credential = instance.info.api_key;
    expect((await callApi(instance, '/v1/resources', { body, credential })).status).toBe(201);
    const provider = new ClientCredentialsProvider({
      clientId: client.clientId,
      clientSecret: client.secret,
      expectedIssuer: instance.info.api_url,
    });
    const used = new Set<string>();
    for (let times = 0; times < 2; times += 1) {
      expect(await auth(provider, { serverUrl: api.resource })).toBe('AUTHORIZED');
      const { access_token = '', scope } = provider.tokens() ?? {};
      used.add(access_token);
      expect(scope).toBe('read');
      expect(await api.call(access_token)).toEqual({ sub: client.agentId, aud: api.resource, scope: 'read' });
    }
    expect(used.size).toBe(2);
    const ours = (await askToken(instance, client)).json().access_token as string;
    expect(await api.call(ours)).toEqual({ refused: expect.stringContaining('aud') });
  });

  it.each([
    [
      'a secret',
      async () =>
        new ClientCredentialsProvider({
          clientId: client.clientId,
          clientSecret: client.secret,
          expectedIssuer: instance.info.api_url,
        }),
    ],
    [
      'a key',
      async () =>
        new PrivateKeyJwtProvider({
          clientId: client.clientId,
          privateKey: await exportJWK(key.privateKey),
          algorithm: 'ES256',
          expectedIssuer: instance.info.api_url,
        }),
    ],
  ])('auth() of the MCP SDK finds its way from our 401 to a token with %s', async (_what, makeProvider) => {
    const provider = await makeProvider();
    const serverUrl = `${instance.info.api_url}/v1/agents/me`;
    const refused = await fetch(serverUrl, { headers: { authorization: 'Bearer a.b.c' } });
    const challenge = refused.headers.get('www-authenticate') ?? '';
    const metadataUrl = /resource_metadata="([^"]+)"/.exec(challenge)?.[1] ?? '';
    const result = await auth(provider, { serverUrl, resourceMetadataUrl: new URL(metadataUrl) });
    expect(result).toBe('AUTHORIZED');
    expect(await me(provider.tokens()?.access_token ?? '')).toMatchObject({ id: client.agentId });
  });
});

/** An MCP server of somebody else's, whose tokens oauth4webapi verifies. */
async function openThirdParty(issuer: string) {
  const insecure = { [oauth.allowInsecureRequests]: true };
  const discovered = await oauth.discoveryRequest(new URL(issuer), { algorithm: 'oauth2', ...insecure });
  const server = await oauth.processDiscoveryResponse(new URL(issuer), discovered);
  const app = express();
  const listening = app.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  const resource = `http://127.0.0.1:${(listening.address() as AddressInfo).port}/mcp`;
  app.get('/.well-known/oauth-protected-resource/mcp', (_request, response) => {
    const document = { resource, authorization_servers: [issuer], scopes_supported: ['read'] };
    response.type('application/json').send(JSON.stringify(document));
  });
  return {
    resource,
    async call(token: string) {
      const request = new Request(resource, { headers: { authorization: `Bearer ${token}` } });
      return oauth.validateJwtAccessToken(server, request, resource, insecure).then(
        ({ sub, aud, scope }) => ({ sub, aud, scope }),
        (error: Error) => ({ refused: error.message }),
      );
    },
    async [Symbol.asyncDispose]() {
      listening.close();
    },
  };
}
