import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestDatabase } from '../helpers/database.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { addKey, askToken, createClient, newKey, type OAuthClient, signProof } from '../helpers/oauth.ts';
import { send } from '../helpers/request.ts';

describe('with nonces switched on, a proof of possession', { timeout: 30_000 }, () => {
  let instance: Instance;
  let client: OAuthClient;
  const { promise: key, resolve } = Promise.withResolvers<Awaited<ReturnType<typeof newKey>>>();

  beforeAll(async () => {
    const { url, db } = await openTestDatabase();
    instance = await startInstance({ env: { DATABASE_URL: url, CREDENCE_DPOP_NONCE: 'on' } });
    client = await createClient(instance);
    resolve(await newKey('EdDSA'));
    await addKey(instance, client, await key);
    await db.query('UPDATE agents SET sender_bound = true, updated_at = now() WHERE id = $1', [
      client.agentId,
    ]);
  }, 60_000);
  afterAll(async () => {
    await instance?.stop();
  }, 60_000);

  const tokenUrl = () => `${instance.info.api_url}/oauth/token`;
  const ask = async (nonce?: string, by?: Awaited<typeof key>) =>
    askToken(
      instance,
      client,
      {},
      {
        dpop: await signProof(by ?? (await key), {
          method: 'POST',
          url: tokenUrl(),
          ...(nonce === undefined ? {} : { nonce }),
        }),
      },
    );

  it('without one, or with one that is not ours, is told which to use, and is good with it', async () => {
    for (const nonce of [undefined, 'of-my-own']) {
      const refused = await ask(nonce);
      expect({ status: refused.status, error: refused.json().error }).toEqual({
        status: 400,
        error: 'use_dpop_nonce',
      });
      const ours = String(refused.headers['dpop-nonce']);
      expect(await ask(ours)).toMatchObject({ status: 200 });
    }
  });

  it('needs one at our API as well, where the answer is 401', async () => {
    const nonce = String((await ask()).headers['dpop-nonce']);
    const { access_token } = (await ask(nonce)).json();
    const url = `${instance.info.api_url}/v1/agents/me`;
    const call = async (more: { nonce?: string }) => {
      const dpop = await signProof(await key, { method: 'GET', url, accessToken: access_token, ...more });
      return send(url, { headers: { authorization: `DPoP ${access_token}`, dpop } });
    };
    const refused = await call({});
    expect(refused.status).toBe(401);
    expect(refused.headers['www-authenticate']).toContain('error="use_dpop_nonce"');
    expect((await call({ nonce: String(refused.headers['dpop-nonce']) })).status).toBe(200);
  });

  it('of a registered key is needed for each token of an agent that must be bound to one', async () => {
    const nonce = String((await ask()).headers['dpop-nonce']);
    expect((await askToken(instance, client)).json().error).toBe('invalid_dpop_proof');
    expect((await ask(nonce, await newKey())).json().error).toBe('invalid_dpop_proof');
    expect((await ask(nonce)).json()).toMatchObject({ token_type: 'DPoP' });
  });
});
