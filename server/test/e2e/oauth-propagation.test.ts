import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../src/db/index.ts';
import { openTestDatabase } from '../helpers/database.ts';
import type { Instance } from '../helpers/instance.ts';
import { askToken, createClient, type OAuthClient, postForm } from '../helpers/oauth.ts';
import { startPair } from '../helpers/pair.ts';
import { send } from '../helpers/request.ts';
import { callApi, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

/** What invariant 7 promises. */
const promisedMs = 5_000;

describe('what ends an agent or a token on one process (invariant 7)', { timeout: 60_000 }, () => {
  let first: Instance;
  let second: Instance;
  let db: Database;
  let upstream: Upstream;
  let sold: Sold;

  beforeAll(async () => {
    const database = await openTestDatabase();
    db = database.db;
    [first, second] = await startPair(database.url);
    upstream = await startUpstream((_, response) => response.end('answered'));
    sold = await sell(first, upstream.url, 'propagation');
  }, 90_000);
  afterAll(async () => {
    await Promise.all([upstream?.close(), first?.stop(), second?.stop()]);
  }, 60_000);

  /** The three places of the second process that look at a token, by what they answer. */
  async function see(token: string) {
    const me = await callApi(second, '/v1/agents/me', { credential: token });
    const call = await send(`${second.info.gateway_url}/api/${sold.slug}/free`, {
      headers: { 'x-agent-id': token },
    });
    const introspected = await postForm(
      second,
      '/oauth/introspect',
      { token },
      { 'x-api-key': first.info.api_key },
    );
    return { me: me.status, call: call.status, active: introspected.json().active as boolean };
  }

  const good = { me: 200, call: 200, active: true };
  const dead = { me: 401, call: 401, active: false };

  async function expectDead(token: string): Promise<void> {
    const deadline = performance.now() + promisedMs;
    let seen = await see(token);
    while (seen.me !== 401 || seen.call !== 401 || seen.active) {
      if (performance.now() > deadline) break;
      await sleep(50);
      seen = await see(token);
    }
    expect(seen).toEqual(dead);
  }

  /** Whoever listens is cut off, again and again, until it is stopped: no notification gets through. */
  function cutNotifications(): () => Promise<void> {
    const cutting = new AbortController();
    const cutter = (async () => {
      while (!cutting.signal.aborted) {
        await db.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND query LIKE 'LISTEN %'`,
        );
        await sleep(20);
      }
    })();
    return () => {
      cutting.abort();
      return cutter;
    };
  }

  const tokenOf = async (client: OAuthClient) =>
    (await askToken(first, client)).json().access_token as string;

  const endings: [string, (client: OAuthClient, token: string) => Promise<unknown>][] = [
    [
      'its deactivation by itself',
      (_client, token) => callApi(first, '/v1/agents/me/deactivate', { body: {}, credential: token }),
    ],
    [
      'its stop by the owner',
      ({ agentId }) =>
        callApi(first, `/v1/agents/${agentId}/stop`, { body: {}, credential: first.info.api_key }),
    ],
    [
      'an expiry that is brought forward',
      ({ agentId }) =>
        callApi(first, `/v1/agents/${agentId}`, {
          method: 'PATCH',
          body: { expires_at: new Date(Date.now() + 500).toISOString() },
          credential: first.info.api_key,
        }),
    ],
    [
      'the revocation of the token',
      (client, token) =>
        postForm(first, '/oauth/revoke', { client_id: client.clientId, client_secret: client.secret, token }),
    ],
  ];

  it.each(endings)('%s is known on the other one within 5 s, for JWTs too', async (_what, end) => {
    const client = await createClient(first, { expires_in: 86_400 });
    const token = await tokenOf(client);
    expect(await see(token)).toEqual(good);
    const answer = await end(client, token);
    expect(answer).toMatchObject({ status: 200 });
    await expectDead(token);
  });

  it.each(endings)('%s is known there within 5 s without a notification', async (_what, end) => {
    const client = await createClient(first, { expires_in: 86_400 });
    const token = await tokenOf(client);
    expect(await see(token)).toEqual(good);
    const stop = cutNotifications();
    try {
      expect(await end(client, token)).toMatchObject({ status: 200 });
      await expectDead(token);
    } finally {
      await stop();
    }
  });

  it('a rotation that nobody was told of ends the old secret there at once, for refresh, introspection and revocation as well', async () => {
    const client = await createClient(first);
    const token = (await askToken(second, client)).json().access_token as string;
    const stop = cutNotifications();
    try {
      const rotated = await callApi(first, `/v1/agents/${client.agentId}`, {
        body: { action: 'rotate' },
        credential: first.info.api_key,
      });
      const secret = rotated.json().client_secret as string;
      const { refresh_token } = (await askToken(first, { ...client, secret })).json();
      const old = { client_id: client.clientId, client_secret: client.secret };
      const refresh = { ...old, grant_type: 'refresh_token', refresh_token };
      for (const [path, fields] of [
        ['/oauth/token', refresh],
        ['/oauth/refresh', refresh],
        ['/oauth/introspect', { ...old, token }],
        ['/oauth/revoke', { ...old, token: refresh_token }],
      ] as const)
        expect(await postForm(second, path, fields), path).toMatchObject({ status: 401 });
      expect(await postForm(second, '/oauth/token', { ...refresh, client_secret: secret })).toMatchObject({
        status: 200,
      });
    } finally {
      await stop();
    }
  });

  it('a rotation stops the old secret there at once, though the client is remembered', async () => {
    const client = await createClient(first);
    for (const instance of [first, second]) expect((await askToken(instance, client)).status).toBe(200);
    const rotated = await callApi(first, `/v1/agents/${client.agentId}`, {
      body: { action: 'rotate' },
      credential: first.info.api_key,
    });
    const secret = rotated.json().client_secret as string;
    expect(await askToken(second, client)).toMatchObject({ status: 401 });
    expect(await askToken(second, { ...client, secret })).toMatchObject({ status: 200 });
  });

  it('what is given on one process works on the other at once, though the client is remembered there', async () => {
    const client = await createClient(first);
    const owner = first.info.api_key;
    const path = `/v1/agents/${client.agentId}`;
    for (let round = 0; round < 5; round += 1) {
      for (const instance of [first, second]) expect((await askToken(instance, client)).status).toBe(200);
      const added = (await callApi(first, `${path}/credentials`, { body: {}, credential: owner })).json();
      for (const instance of [second, first])
        expect(
          (await askToken(instance, { ...client, secret: added.client_secret })).status,
          'the new secret',
        ).toBe(200);
      await callApi(first, `${path}/credentials/${added.id}`, { method: 'DELETE', credential: owner });
    }
    await callApi(first, `${path}/stop`, { body: {}, credential: owner });
    expect((await askToken(second, client)).status).toBe(401);
    await callApi(first, `${path}/reactivate`, { body: {}, credential: owner });
    expect((await askToken(second, client)).status, 'started again').toBe(200);
  });

  it('one refresh token used on both at once gives one family, and the same answer', async () => {
    const client = await createClient(first);
    for (let round = 0; round < 5; round += 1) {
      const { refresh_token } = (await askToken(first, client)).json();
      const fields = { grant_type: 'refresh_token', refresh_token, scope: 'read' };
      const answers = await Promise.all(
        [first, second, first, second].map((instance) => askToken(instance, client, fields)),
      );
      expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
      expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
    }
  });
});
