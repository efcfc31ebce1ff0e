import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../src/db/index.ts';
import { limits } from '../../src/kernel/limits.ts';
import { registerAgent } from '../helpers/agent.ts';
import { openTestDatabase } from '../helpers/database.ts';
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
import { callApi } from '../helpers/seller.ts';

describe('a refresh token', { timeout: 30_000 }, () => {
  let instance: Instance;
  let db: Database;
  let client: OAuthClient;

  beforeAll(async () => {
    const database = await openTestDatabase();
    db = database.db;
    instance = await startInstance({ env: { DATABASE_URL: database.url } });
    client = await createClient(instance);
  }, 60_000);
  afterAll(async () => {
    await instance?.stop();
  }, 60_000);

  const grant = async (fields: Record<string, string> = {}, of = client) =>
    (await askToken(instance, of, fields)).json() as { access_token: string; refresh_token: string };
  const refresh = (refresh_token: string, fields: Record<string, string> = {}, of = client) =>
    askToken(instance, of, { grant_type: 'refresh_token', refresh_token, ...fields });
  const asOwner = (path: string, body: unknown, method = 'POST') =>
    callApi(instance, path, { method, body, credential: instance.info.api_key });
  const meOf = (token: string) => callApi(instance, '/v1/agents/me', { credential: token });
  const grantByKey = async (own: OAuthClient, key: ClientKey) => {
    const answer = await postForm(instance, '/oauth/token', {
      grant_type: 'client_credentials',
      client_assertion_type: assertionType,
      client_assertion: await signAssertion(instance, own, key),
    });
    return answer.json() as { access_token: string; refresh_token: string };
  };
  const newKeyClient = async () => {
    const own = await createClient(instance);
    const key = await newKey();
    await addKey(instance, own, key);
    return { own, key };
  };
  const refreshBare = (refresh_token: string) => postForm(instance, '/oauth/refresh', { refresh_token });
  const introspect = async (token: string) =>
    (await postForm(instance, '/oauth/introspect', { token }, { 'x-api-key': instance.info.api_key })).json()
      .active as boolean;
  /** Lets so much time pass for what was spent so far. */
  const age = (seconds: number) =>
    db.query(`UPDATE spent_refresh_tokens SET spent_at = spent_at - make_interval(secs => $1)`, [seconds]);

  it('is used once: it gives a fresh access token and its successor', async () => {
    const first = await grant();
    const answer = await refresh(first.refresh_token);
    expect(answer.headers['cache-control']).toBe('no-store');
    expect(answer.json()).toMatchObject({ token_type: 'Bearer', expires_in: 3600, scope: 'read write' });
    expect(answer.json().refresh_token).toMatch(/^rt_[\w-]{65}$/);
    expect(answer.json().refresh_token).not.toBe(first.refresh_token);
    expect((await meOf(answer.json().access_token)).status).toBe(200);
  });

  it('retried honestly within 30 s gets the very same answer, however often', async () => {
    const { refresh_token } = await grant();
    const answers = [
      await refresh(refresh_token),
      await refresh(refresh_token),
      await refresh(refresh_token),
    ];
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    expect(answers[0]?.status).toBe(200);
    await age(29);
    expect((await refresh(refresh_token)).text).toBe(answers[0]?.text);
  });

  it('used again after the window ends its family and the access tokens of that, and is written down', async () => {
    const first = await grant();
    const second = (await refresh(first.refresh_token)).json();
    await age(31);
    expectError(await refresh(first.refresh_token), 400, 'invalid_grant');
    expectError(await refresh(second.refresh_token), 400, 'invalid_grant');
    for (const token of [first.access_token, second.access_token])
      expect((await meOf(token)).status).toBe(401);
    const events = await db.query<{ action: string }>(
      `SELECT action FROM audit_events WHERE resource = $1 AND action = 'agent.refresh_token_reused'`,
      [client.agentId],
    );
    expect(events).toHaveLength(1);
    // Other families of the client live on.
    expect((await refresh((await grant()).refresh_token)).status).toBe(200);
  });

  it('used again after its successor was is a theft, also within the 30 s', async () => {
    const first = await grant();
    const second = (await refresh(first.refresh_token)).json();
    const third = (await refresh(second.refresh_token)).json();
    expectError(await refresh(first.refresh_token), 400, 'invalid_grant');
    expectError(await refresh(third.refresh_token), 400, 'invalid_grant');
    expect((await meOf(third.access_token)).status).toBe(401);
  });

  it('retried for something else within the window is refused, and its family lives on', async () => {
    const first = await grant();
    const second = (await refresh(first.refresh_token, { scope: 'read' })).json();
    for (const fields of [{}, { scope: 'write' }, { scope: 'read', resource: instance.info.api_url }])
      expectError(await refresh(first.refresh_token, fields), 400, 'invalid_grant');
    expect((await refresh(second.refresh_token)).status).toBe(200);
  });

  it('never widens the scope: a part of what was granted may be asked for, and no more', async () => {
    const first = await grant({ scope: 'read' });
    expectError(await refresh(first.refresh_token, { scope: 'read write' }), 400, 'invalid_scope');
    expect((await refresh(first.refresh_token)).json().scope).toBe('read');

    const wide = await grant();
    const narrow = (await refresh(wide.refresh_token, { scope: 'write' })).json();
    expect(narrow.scope).toBe('write');
    // RFC 6749 section 6: the refresh token keeps what was granted first.
    expect((await refresh(narrow.refresh_token)).json().scope).toBe('read write');
  });

  it('gives nothing that the agent has lost since', async () => {
    const own = await createClient(instance);
    const { refresh_token } = await grant({}, own);
    await asOwner(`/v1/agents/${own.agentId}`, { scopes: ['read'] }, 'PATCH');
    expect((await refresh(refresh_token, {}, own)).json().scope).toBe('read');
  });

  const register = async (scopes: string[], identifier = `https://api.example/${crypto.randomUUID()}`) => {
    const made = await asOwner('/v1/resources', { identifier, name: 'An API', scopes });
    return { id: made.json().id as string, identifier };
  };
  const remove = (id: string) => asOwner(`/v1/resources/${id}`, undefined, 'DELETE');

  describe('for a resource', () => {
    it('gives no token once the resource is gone, and its family waits for it to come back', async () => {
      const { id, identifier } = await register([]);
      const { refresh_token } = await grant({ resource: identifier });
      await remove(id);
      expectError(await refresh(refresh_token), 400, 'invalid_target');
      expectError(await refreshBare(refresh_token), 400, 'invalid_target');
      const isActive = async () =>
        (
          await postForm(instance, '/oauth/introspect', {
            client_id: client.clientId,
            client_secret: client.secret,
            token: refresh_token,
          })
        ).json().active;
      expect(await isActive()).toBe(false);
      await register([], identifier);
      expect(await isActive()).toBe(true);
      expect((await refresh(refresh_token)).status).toBe(200);
    });

    it('gives none for what has become another organisation’s', async () => {
      const { id, identifier } = await register([]);
      const { refresh_token } = await grant({ resource: identifier });
      await remove(id);
      const owner = { organisationId: 'org_other', environmentId: 'env_other' };
      await db.query("INSERT INTO organisations (id, name, created_at) VALUES ($1, 'Other', now())", [
        owner.organisationId,
      ]);
      await db.query(
        "INSERT INTO environments (id, organisation_id, kind, created_at) VALUES ($1, $2, 'sandbox', now())",
        [owner.environmentId, owner.organisationId],
      );
      await db.query('INSERT INTO oauth_resource_owners VALUES ($1, $2)', [identifier, owner.organisationId]);
      await db.query("INSERT INTO oauth_resources VALUES ($1, 'res_1', $2, 'Theirs', '{}', now())", [
        owner.environmentId,
        identifier,
      ]);
      expectError(await refresh(refresh_token), 400, 'invalid_target');
    });

    it('gives no scope that the resource does not understand any more', async () => {
      const { id, identifier } = await register(['read', 'write']);
      const { refresh_token } = await grant({ resource: identifier });
      await remove(id);
      await register(['write'], identifier);
      expectError(await refresh(refresh_token, { scope: 'read' }), 400, 'invalid_scope');
      expect((await refresh(refresh_token)).json().scope).toBe('write');
    });
  });

  it('is given to an agent that registered itself a bounded number of times in a minute, as are its successors', async () => {
    const { agent_id, token } = await registerAgent(instance);
    const itself = { agentId: agent_id, clientId: agent_id, secret: token };
    let { refresh_token } = await grant({}, itself);
    ({ refresh_token } = (await refreshBare(refresh_token)).json());
    const answers = await Promise.all(
      Array.from({ length: limits.homelessGrantsPerMinute }, () => askToken(instance, itself)),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(limits.homelessGrantsPerMinute - 2);
    expectRateLimited(answers.find(({ status }) => status !== 200));
    expectRateLimited(await refreshBare(refresh_token));
  });

  it('is its own client’s: another one can’t use it, nor end it', async () => {
    const { refresh_token } = await grant();
    const stranger = await createClient(instance);
    expectError(await refresh(refresh_token, {}, stranger), 400, 'invalid_grant');
    await postForm(instance, '/oauth/revoke', {
      client_id: stranger.clientId,
      client_secret: stranger.secret,
      token: refresh_token,
    });
    expect((await refresh(refresh_token)).status).toBe(200);
  });

  it.each<[string, (of: OAuthClient, token: string) => Promise<unknown>]>([
    ['rotated', (of) => asOwner(`/v1/agents/${of.agentId}`, { action: 'rotate' })],
    ['stopped', (of) => asOwner(`/v1/agents/${of.agentId}/stop`, {})],
    [
      'stopped and started again',
      async (of) => {
        await asOwner(`/v1/agents/${of.agentId}/stop`, {});
        return asOwner(`/v1/agents/${of.agentId}/reactivate`, {});
      },
    ],
    [
      'deactivated by itself',
      (_of, token) => callApi(instance, '/v1/agents/me/deactivate', { body: {}, credential: token }),
    ],
    ['deleted', (of) => asOwner(`/v1/agents/${of.agentId}`, undefined, 'DELETE')],
  ])('is dead once its agent is %s, on the bare route as well', async (_what, end) => {
    const own = await createClient(instance);
    const { access_token, refresh_token } = await grant({}, own);
    expect(((await end(own, access_token)) as Answer).status).toBeLessThan(300);
    expectError(await postForm(instance, '/oauth/refresh', { refresh_token }), 400, 'invalid_grant');
    expect((await refresh(refresh_token, {}, own)).status).toBeGreaterThanOrEqual(400);
  });

  it('lives as long as the grace of the secret that it was got with', async () => {
    const own = await createClient(instance);
    const { refresh_token } = await grant({}, own);
    await asOwner(`/v1/agents/${own.agentId}`, { action: 'rotate', grace_seconds: 3600 });
    const next = await postForm(instance, '/oauth/refresh', { refresh_token });
    expect(next.status).toBe(200);
    await db.query(
      'UPDATE agent_credentials SET expires_at = now() WHERE agent_id = $1 AND expires_at IS NOT NULL',
      [own.agentId],
    );
    const { refresh_token: last } = next.json();
    expectError(await postForm(instance, '/oauth/refresh', { refresh_token: last }), 400, 'invalid_grant');
  });

  describe('got with a key', () => {
    it('ends at once with the secret that is rotated, and its access token lives on; one of afterwards lives', async () => {
      const { own, key } = await newKeyClient();
      const before = await grantByKey(own, key);
      await asOwner(`/v1/agents/${own.agentId}`, { action: 'rotate' });
      const after = await grantByKey(own, key);
      expect(await introspect(before.refresh_token)).toBe(false);
      expectError(await refreshBare(before.refresh_token), 400, 'invalid_grant');
      expect((await meOf(before.access_token)).status).toBe(200);
      expect(await introspect(after.refresh_token)).toBe(true);
      expect((await refreshBare(after.refresh_token)).status).toBe(200);
    });

    it('lives as long as the grace of the secret that was rotated after it', async () => {
      const { own, key } = await newKeyClient();
      const { refresh_token } = await grantByKey(own, key);
      await asOwner(`/v1/agents/${own.agentId}`, { action: 'rotate', grace_seconds: 3600 });
      const next = await refreshBare(refresh_token);
      expect(next.status).toBe(200);
      const after = await grantByKey(own, key);
      await db.query(
        'UPDATE agent_credentials SET expires_at = now() WHERE agent_id = $1 AND expires_at IS NOT NULL',
        [own.agentId],
      );
      const { refresh_token: last } = next.json();
      expectError(await refreshBare(last), 400, 'invalid_grant');
      expect((await refreshBare(after.refresh_token)).status).toBe(200);
    });

    it('by a process whose clock is behind the rotation’s lives', async () => {
      const { own, key } = await newKeyClient();
      await asOwner(`/v1/agents/${own.agentId}`, { action: 'rotate' });
      await db.query(
        `WITH ahead AS (UPDATE agents SET updated_at = updated_at + interval '20 seconds' WHERE id = $1)
         UPDATE agent_credentials SET created_at = created_at + interval '20 seconds'
         WHERE agent_id = $1 AND rotated_from IS NOT NULL`,
        [own.agentId],
      );
      const notify = 'SELECT pg_notify($1, $2)';
      await db.query(notify, ['agent_changed', own.agentId]);
      const { refresh_token } = await grantByKey(own, key);
      expect((await refreshBare(refresh_token)).status).toBe(200);
    });
  });

  it('alone is enough at /oauth/refresh, for clients that keep nothing else, unless the owner turns that off; never at /oauth/token', async () => {
    const own = await createClient(instance);
    const { refresh_token } = await grant({}, own);
    const bare = { grant_type: 'refresh_token', refresh_token };
    expectError(await postForm(instance, '/oauth/token', bare), 401, 'invalid_client');
    const answer = await callApi(instance, '/oauth/refresh', { body: bare });
    expect(answer.status).toBe(200);
    await asOwner(`/v1/agents/${own.agentId}`, { refresh_without_client_auth: false }, 'PATCH');
    const { refresh_token: next } = answer.json();
    expectError(await postForm(instance, '/oauth/refresh', { refresh_token: next }), 401, 'invalid_client');
    expect((await refresh(next, {}, own)).status).toBe(200);
  });

  it('that is bound to a key is refreshed with a proof of that key only, and with none of another', async () => {
    const [key, other] = [await newKey(), await newKey()];
    const url = `${instance.info.api_url}/oauth/token`;
    const proof = (by = key) => signProof(by, { method: 'POST', url });
    const send = async (refresh_token: string, dpop?: string) =>
      askToken(
        instance,
        client,
        { grant_type: 'refresh_token', refresh_token },
        dpop === undefined ? {} : { dpop },
      );
    const first = (await askToken(instance, client, {}, { dpop: await proof() })).json();
    expectError(await send(first.refresh_token), 400, 'invalid_grant');
    expectError(await send(first.refresh_token, await proof(other)), 400, 'invalid_grant');
    const second = await send(first.refresh_token, await proof());
    expect(second.json()).toMatchObject({ token_type: 'DPoP' });
    // An honest retry has a proof of its own.
    expect((await send(first.refresh_token, await proof())).text).toBe(second.text);
    expectError(await send(first.refresh_token, await proof(other)), 400, 'invalid_grant');
  });

  it('that is bound to a key of its agent ends when that key is revoked, and no other does', async () => {
    const { own, key } = await newKeyClient();
    const [other, unregistered] = [await newKey(), await newKey()];
    await addKey(instance, own, other);
    const url = `${instance.info.api_url}/oauth/token`;
    const proofOf = async (by: ClientKey) => ({ dpop: await signProof(by, { method: 'POST', url }) });
    const keys = [key, other, unregistered];
    const tokens: string[] = [];
    for (const by of keys)
      tokens.push((await askToken(instance, own, {}, await proofOf(by))).json().refresh_token);
    const path = `/v1/agents/${own.agentId}/credentials`;
    const { data } = (await callApi(instance, path, { credential: instance.info.api_key })).json();
    const revoked = data.find(({ thumbprint }: { thumbprint: string }) => thumbprint === key.thumbprint);
    await asOwner(`${path}/${revoked.id}`, undefined, 'DELETE');
    expect(await introspect(tokens[0] ?? '')).toBe(false);
    const answers: number[] = [];
    for (const [index, by] of keys.entries()) {
      const fields = { grant_type: 'refresh_token', refresh_token: tokens[index] ?? '' };
      answers.push((await askToken(instance, own, fields, await proofOf(by))).status);
    }
    expect(answers).toEqual([400, 200, 200]);
  });

  it('and its answer are nowhere in the database', async () => {
    const first = await grant();
    const second = (await refresh(first.refresh_token)).json();
    const rows = await db.query<{ text: string }>(
      `SELECT f::text || coalesce(s::text, '') AS text FROM refresh_families f
       LEFT JOIN spent_refresh_tokens s ON s.family_id = f.id`,
    );
    const all = rows.map(({ text }) => text).join('\n');
    expect(all.length).toBeGreaterThan(100);
    for (const secret of [first.refresh_token, second.refresh_token, second.access_token])
      for (const form of [
        secret,
        Buffer.from(secret).toString('hex'),
        Buffer.from(secret.slice(25)).toString('hex'),
      ])
        expect(all).not.toContain(form);
  });

  it.each(['', 'rt_', `rt_${'A'.repeat(65)}`, 'x'.repeat(5000), 'eyJhbGciOiJub25lIn0.e30.'])(
    'that is none (%#) is invalid_grant, or missing',
    async (text) => {
      const answer = await refresh(text);
      expect(answer.status).toBe(400);
      expect(['invalid_grant', 'invalid_request']).toContain(answer.json().error);
    },
  );
});

function expectError(answer: Answer, status: number, error: string): void {
  expect({ status: answer.status, error: answer.json().error }).toEqual({ status, error });
}

function expectRateLimited(answer: Answer | undefined): void {
  expect(answer?.status).toBe(429);
  expect(Number(answer?.headers['retry-after'])).toBeGreaterThan(0);
}
