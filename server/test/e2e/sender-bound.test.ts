import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Instance, startInstance } from '../helpers/instance.ts';
import {
  addKey,
  askToken,
  type ClientKey,
  createClient,
  newKey,
  type OAuthClient,
  postForm,
  signProof,
} from '../helpers/oauth.ts';
import { send } from '../helpers/request.ts';
import { callApi } from '../helpers/seller.ts';

describe('an agent whose owner has switched sender_bound on', { timeout: 20_000 }, () => {
  let instance: Instance;
  beforeAll(async () => {
    instance = await startInstance();
  }, 60_000);
  afterAll(() => instance?.stop(), 60_000);

  const asOwner = (path: string, sending: { body?: object; method?: string } = {}) =>
    callApi(instance, path, { credential: instance.info.api_key, ...sending });
  const switchOn = (client: OAuthClient) =>
    asOwner(`/v1/agents/${client.agentId}`, { body: { sender_bound: true }, method: 'PATCH' });
  const proofFor = async (key: ClientKey, path: string, accessToken?: string) => ({
    dpop: await signProof(key, {
      method: 'POST',
      url: `${instance.info.api_url}${path}`,
      ...(accessToken === undefined ? {} : { accessToken }),
    }),
  });
  const askBound = async (client: OAuthClient, key: ClientKey, fields: Record<string, string> = {}) =>
    askToken(instance, client, fields, await proofFor(key, '/oauth/token'));
  async function makeBound() {
    const [client, key] = [await createClient(instance), await newKey()];
    await addKey(instance, client, key);
    expect((await switchOn(client)).json()).toMatchObject({ sender_bound: true });
    return { client, key };
  }

  it('has a key to bind tokens to: without one it is refused, as nobody could get a token any more', async () => {
    const client = await createClient(instance);
    const answer = await switchOn(client);
    expect(answer.status, answer.text).toBe(409);
    expect((await asOwner(`/v1/agents/${client.agentId}`)).json()).toMatchObject({ sender_bound: false });
    expect((await askToken(instance, client)).status).toBe(200);
  });

  it('loses the tokens and refresh tokens of before, which were bound to nothing', async () => {
    const [client, key] = [await createClient(instance), await newKey()];
    await addKey(instance, client, key);
    const { access_token, refresh_token } = (await askToken(instance, client)).json();
    const me = () => callApi(instance, '/v1/agents/me', { credential: access_token });
    expect((await me()).status).toBe(200);
    await switchOn(client);
    expect((await me()).status).toBe(401);
    const refresh = await postForm(instance, '/oauth/refresh', { refresh_token });
    expect([refresh.status, refresh.json().error]).toEqual([400, 'invalid_grant']);
  });

  it('gets tokens only with a proof of a registered key, by every way that there is', async () => {
    const { client, key } = await makeBound();
    expect((await askToken(instance, client)).json()).toMatchObject({ error: 'invalid_dpop_proof' });
    expect((await askBound(client, await newKey())).json()).toMatchObject({ error: 'invalid_dpop_proof' });
    const jwt = await callApi(instance, '/refresh', {
      body: { agent_id: client.agentId, token: client.secret },
    });
    expect([jwt.status, jwt.json().code]).toEqual([403, 'forbidden']);
    expect((await askBound(client, key)).json()).toMatchObject({ token_type: 'DPoP' });
  });

  it('refreshes for as long as it has the key', async () => {
    const { client, key } = await makeBound();
    const { refresh_token } = (await askBound(client, key)).json();
    const next = await askBound(client, key, { grant_type: 'refresh_token', refresh_token });
    expect(next.json()).toMatchObject({ token_type: 'DPoP' });
    const path = `/v1/agents/${client.agentId}/credentials`;
    const { data } = (await asOwner(path)).json();
    const { id } = data.find(({ thumbprint }: { thumbprint: string }) => thumbprint === key.thumbprint);
    expect((await asOwner(`${path}/${id}`, { method: 'DELETE' })).status).toBe(204);
    const late = await askBound(client, key, {
      grant_type: 'refresh_token',
      refresh_token: next.json().refresh_token,
    });
    expect([late.status, late.json().error]).toEqual([400, 'invalid_grant']);
  });

  it("rotates its secret with the key's proof", async () => {
    const { client, key } = await makeBound();
    const { access_token } = (await askBound(client, key)).json();
    const path = '/v1/agents/me/rotate';
    const rotate = (headers: Record<string, string>) =>
      send(`${instance.info.api_url}${path}`, { method: 'POST', headers });
    expect((await rotate({ authorization: `Bearer ${access_token}` })).status).toBe(401);
    expect((await rotate({ authorization: `DPoP ${access_token}` })).status).toBe(401);
    const answer = await rotate({
      authorization: `DPoP ${access_token}`,
      ...(await proofFor(key, path, access_token)),
    });
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json().client_secret).toMatch(/^cs_/);
  });
});
