import { expect } from 'vitest';
import { type Instance, startInstance } from './instance.ts';
import {
  addKey,
  askToken,
  assertionType,
  type ClientKey,
  createClient,
  newKey,
  type OAuthClient,
  postForm,
  signProof,
} from './oauth.ts';
import { type Answer, send } from './request.ts';
import { sell, type Sold } from './seller.ts';
import { startUpstream } from './upstream.ts';

/** A running instance with a client that has a secret and a key, and a seller whose API it may call. */
export interface OAuthScene {
  instance: Instance;
  client: OAuthClient;
  key: ClientKey;
  sold: Sold;
  tokenUrl: string;
  meUrl: string;
  askByAssertion(assertion: string, fields?: Record<string, string>): Promise<Answer>;
  /** Asks who the token's agent is. */
  meWith(authorization: string, dpop?: string): Promise<Answer>;
  /** An access token that is bound to the client's key. */
  boundToken(): Promise<string>;
  close(): Promise<unknown>;
}

export async function openOAuthScene(): Promise<OAuthScene> {
  const instance = await startInstance();
  const client = await createClient(instance);
  const key = await newKey();
  await addKey(instance, client, key);
  const upstream = await startUpstream((_, response) => response.end('answered'));
  const sold = await sell(instance, upstream.url, 'attacks');
  const tokenUrl = `${instance.info.api_url}/oauth/token`;
  const meUrl = `${instance.info.api_url}/v1/agents/me`;
  return {
    instance,
    client,
    key,
    sold,
    tokenUrl,
    meUrl,
    askByAssertion: (assertion, fields = {}) =>
      postForm(instance, '/oauth/token', {
        grant_type: 'client_credentials',
        client_assertion_type: assertionType,
        client_assertion: assertion,
        ...fields,
      }),
    meWith: (authorization, dpop) =>
      send(meUrl, { headers: { authorization, ...(dpop === undefined ? {} : { dpop }) } }),
    async boundToken() {
      const proof = await signProof(key, { method: 'POST', url: tokenUrl });
      return (await askToken(instance, client, {}, { dpop: proof })).json().access_token;
    },
    close: () => Promise.all([upstream.close(), instance.stop()]),
  };
}

/** An error of OAuth (RFC 6749 section 5.2). */
export function expectError(answer: Answer, status: number, error: string): void {
  expect({ status: answer.status, error: answer.json().error }).toEqual({ status, error });
}
