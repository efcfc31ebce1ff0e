import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../src/db/index.ts';
import { newId } from '../../src/kernel/ids.ts';
import { limits } from '../../src/kernel/limits.ts';
import { registerAgent } from '../helpers/agent.ts';
import { openTestDatabase } from '../helpers/database.ts';
import type { Instance } from '../helpers/instance.ts';
import {
  addKey,
  askToken,
  assertionType,
  createClient,
  newKey,
  type OAuthClient,
  signAssertion,
  signProof,
} from '../helpers/oauth.ts';
import { startPair } from '../helpers/pair.ts';
import { type Answer, send } from '../helpers/request.ts';
import { callApi } from '../helpers/seller.ts';

/** A wrong secret at the token endpoint, from that address. */
const guess = (at: Instance, client: OAuthClient, from: string) =>
  send(`${at.info.api_url}/oauth/token`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: `grant_type=client_credentials&client_id=${client.clientId}&client_secret=wrong`,
    from,
  });

describe('guessing at two processes', { timeout: 30_000 }, () => {
  let db: Database;
  let pair: [Instance, Instance];
  beforeAll(async () => {
    const database = await openTestDatabase();
    db = database.db;
    pair = await startPair(database.url);
  }, 90_000);
  afterAll(() => Promise.all((pair ?? []).map((one) => one.stop())), 60_000);

  const refusalsOf = async (client: OAuthClient) => {
    const answer = await callApi(
      pair[0],
      `/audit-logs?action=agent.token_refused&resource=${client.agentId}`,
      {
        credential: pair[0].info.api_key,
      },
    );
    return answer.json().data as { client_address: string; data: { refusals: number } }[];
  };

  it('is counted by both together; its owner sees it, and gets tokens from elsewhere at both', async () => {
    const [first, second] = pair;
    const client = await createClient(first);
    const statuses = [];
    for (const at of [first, second, first, second, first, second])
      statuses.push((await guess(at, client, '127.7.7.1')).status);
    expect(statuses).toEqual([401, 401, 401, 401, 401, 401]);
    for (const at of pair) {
      const refused = await guess(at, client, '127.7.7.1');
      expect(refused.status, refused.text).toBe(429);
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
      expect((await askToken(at, client)).status).toBe(200);
    }
    const seen = await refusalsOf(client);
    expect(seen).toHaveLength(6);
    expect(new Set(seen.map(({ client_address }) => client_address))).toEqual(new Set(['127.7.7.1']));
  });

  it('from very many addresses is one line in twenty, and then fewer, in its owner’s log', async () => {
    const client = await createClient(pair[0]);
    await Promise.all(
      Array.from({ length: 300 }, (_, index) =>
        guess(pair[index % 2] as Instance, client, `127.8.${index >> 7}.${(index & 127) + 1}`),
      ),
    );
    const seen = await refusalsOf(client);
    // A list's page has twenty: the newest stand for many.
    expect(seen[0]?.data.refusals).toBeGreaterThan(50);
    const rows = await db.query(
      "SELECT 1 FROM audit_events WHERE action = 'agent.token_refused' AND resource = $1",
      [client.agentId],
    );
    expect(rows.length).toBe(20 + 4);
    expect((await askToken(pair[1], client)).status).toBe(200);
  });

  const countEvents = async (client: OAuthClient) =>
    (
      await db.query("SELECT 1 FROM audit_events WHERE resource = $1 AND action LIKE 'agent.refresh%'", [
        client.agentId,
      ])
    ).length;

  describe('from an address that a good client shares', () => {
    const from = '127.9.1.1';
    const post = (path: string, fields: Record<string, string>, headers: Record<string, string> = {}) =>
      send(`${pair[0].info.api_url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
        body: new URLSearchParams(fields).toString(),
        from,
      });
    const wrong = `cs_${'A'.repeat(49)}`;
    const fail = async () => {
      const statuses = await Promise.all(
        Array.from({ length: 60 }, () =>
          post('/oauth/token', {
            grant_type: 'client_credentials',
            client_id: newId('client'),
            client_secret: wrong,
          }),
        ),
      );
      expect(statuses.at(-1)?.status).toBe(429);
    };

    it('makes only the guesser wait: the client gets its tokens in every way', async () => {
      const at = pair[0];
      const [client, fresh] = [await createClient(at), await createClient(at)];
      const key = await newKey();
      await addKey(at, client, key);
      const agent = await registerAgent(at);
      const { refresh_token } = (await askToken(at, client)).json();
      await fail();
      const credentials = { client_id: client.clientId, client_secret: client.secret };
      const grant = { grant_type: 'client_credentials' };
      const answers: [string, Answer][] = [
        ['secret', await post('/oauth/token', { ...grant, ...credentials })],
        [
          'secret of a client that nobody has asked for',
          await post('/oauth/token', { ...grant, client_id: fresh.clientId, client_secret: fresh.secret }),
        ],
        [
          'key',
          await post('/oauth/token', {
            ...grant,
            client_assertion_type: assertionType,
            client_assertion: await signAssertion(at, client, key),
          }),
        ],
        ['bare refresh token', await post('/oauth/refresh', { refresh_token })],
        ['introspection', await post('/oauth/introspect', { ...credentials, token: refresh_token })],
        [
          'introspection with an API key',
          await post('/oauth/introspect', { token: refresh_token }, { 'x-api-key': at.info.api_key }),
        ],
      ];
      for (const [way, answer] of answers) expect(answer.status, `${way}: ${answer.text}`).toBe(200);
      const jwt = await send(`${at.info.api_url}/refresh`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ agent_id: agent.agent_id, token: agent.token }),
        from,
      });
      expect(jwt.status, jwt.text).toBe(200);
    });

    it('has used up all its looks: who is known by its key or API key gets in at once', async () => {
      const at = pair[0];
      const [client, key] = [await createClient(at), await newKey()];
      await addKey(at, client, key);
      const grant = async () => ({
        grant_type: 'client_credentials',
        client_assertion_type: assertionType,
        client_assertion: await signAssertion(at, client, key),
      });
      const apiKey = { 'x-api-key': at.info.api_key };
      expect((await post('/oauth/token', await grant())).status).toBe(200);
      expect((await post('/oauth/introspect', { token: 'x' }, apiKey)).status).toBe(200);
      const wrongKey = { 'x-api-key': `awx_test_${'x'.repeat(50)}` };
      await fail();
      const askWrongly = () => post('/oauth/introspect', { token: 'x' }, wrongKey);
      const statuses = new Set<number>();
      for (let round = 0; round < 5; round += 1) {
        await Promise.all(Array.from({ length: 80 }, askWrongly));
        statuses.add((await post('/oauth/token', await grant())).status);
        statuses.add((await post('/oauth/introspect', { token: 'x' }, apiKey)).status);
      }
      expect(statuses).toEqual(new Set([200]));
    });

    it('makes it wait for its own name’s failures, and lets the right secret in at once', async () => {
      const client = await createClient(pair[0]);
      expect((await askToken(pair[0], client)).status).toBe(200);
      const ask = (client_secret: string) =>
        post('/oauth/token', { grant_type: 'client_credentials', client_id: client.clientId, client_secret });
      const guesses = await Promise.all(Array.from({ length: 400 }, () => ask(wrong)));
      expect(guesses.filter(({ status }) => status === 401).length).toBeLessThanOrEqual(6);
      expect(guesses.filter(({ status }) => status === 429).length).toBeGreaterThanOrEqual(394);
      expect((await ask(client.secret)).status).toBe(200);
    });
  });

  describe('refresh tokens', () => {
    const from = '127.9.3.1';
    const post = (path: string, fields: Record<string, string>, by = from) =>
      send(`${pair[0].info.api_url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(fields).toString(),
        from: by,
      });
    const send100 = async (path: string, fields: Record<string, string>, by: string) => {
      const statuses = [];
      for (let index = 0; index < 100; index += 1) statuses.push((await post(path, fields, by)).status);
      return statuses.filter((status) => status === 429).length;
    };

    it('of somebody else’s family that are guessed by a client of one’s own fill nobody’s log', async () => {
      const [victim, own] = [await createClient(pair[0]), await createClient(pair[0])];
      const { refresh_token } = (await askToken(pair[0], victim)).json();
      const guessed = {
        grant_type: 'refresh_token',
        refresh_token: `${refresh_token.slice(0, 25)}${'A'.repeat(43)}`,
        client_id: own.clientId,
        client_secret: own.secret,
      };
      expect(await send100('/oauth/token', guessed, '127.9.3.1')).toBeGreaterThan(80);
      expect(await countEvents(victim)).toBeLessThan(20);
      expect((await post('/oauth/refresh', { refresh_token })).status).toBe(200);
    });

    it.each([
      ['dead', '127.9.3.2', {}],
      ['for another resource', '127.9.3.3', { resource: 'https://elsewhere.example' }],
      ['of another client', '127.9.3.4', { client_id: newId('client') }],
    ] as [string, string, Record<string, string>][])(
      'that are %s fill nobody’s log, and make who sends them wait',
      async (what, by, fields) => {
        const client = await createClient(pair[0]);
        const { refresh_token } = (await askToken(pair[0], client)).json();
        if (what === 'dead')
          await callApi(pair[0], `/v1/agents/${client.agentId}/stop`, {
            body: {},
            credential: pair[0].info.api_key,
          });
        expect(await send100('/oauth/refresh', { refresh_token, ...fields }, by)).toBeGreaterThan(80);
        expect(await countEvents(client)).toBeLessThan(20);
      },
    );

    it('that are repeated within their window are one refresh in the log, and bounded for who registered itself', async () => {
      const agent = await registerAgent(pair[0]);
      const client = { client_id: agent.agent_id, client_secret: agent.token };
      const { refresh_token } = (
        await post('/oauth/token', { grant_type: 'client_credentials', ...client })
      ).json();
      const statuses = [];
      for (let index = 0; index < limits.homelessGrantsPerMinute + 5; index += 1)
        statuses.push((await post('/oauth/refresh', { refresh_token })).status);
      expect(statuses.slice(0, 100)).toEqual(Array.from({ length: 100 }, () => 200));
      expect(statuses.at(-1)).toBe(429);
      const rows = await db.query<{ action: string }>(
        "SELECT action FROM audit_events WHERE resource = $1 AND action IN ('agent.refresh_refused', 'agent.token_refreshed')",
        [agent.agent_id],
      );
      expect(rows).toEqual([{ action: 'agent.token_refreshed' }]);
    });
  });

  it.each<[string, string, () => Promise<[Record<string, string>, Record<string, string>]>]>([
    ['a used proof at /oauth/refresh', '127.9.2.1', usedProof],
    [
      'a wrong API key at /oauth/introspect',
      '127.9.2.2',
      async () => [{ token: 'x' }, { 'x-api-key': `awx_test_${'x'.repeat(50)}` }],
    ],
    [
      'a refresh token that nobody has',
      '127.9.2.3',
      async () => [{ refresh_token: `rt_${'A'.repeat(65)}` }, {}],
    ],
  ])('counts %s', async (what, from, make) => {
    const [fields, headers] = await make();
    const statuses: number[] = [];
    for (let index = 0; index < 12; index += 1) {
      const path = what.endsWith('introspect') ? '/oauth/introspect' : '/oauth/refresh';
      const answer = await send(`${pair[0].info.api_url}${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
        body: new URLSearchParams(fields).toString(),
        from,
      });
      statuses.push(answer.status);
    }
    expect(statuses.slice(0, 5).every((status) => status === 400 || status === 401)).toBe(true);
    expect(statuses.at(-1)).toBe(429);
  });

  async function usedProof(): Promise<[Record<string, string>, Record<string, string>]> {
    const url = `${pair[0].info.api_url}/oauth/refresh`;
    return [{ refresh_token: 'none' }, { dpop: await signProof(await newKey(), { method: 'POST', url }) }];
  }
});
