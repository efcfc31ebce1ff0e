import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../src/db/index.ts';
import { openTestDatabase } from '../helpers/database.ts';
import type { Instance } from '../helpers/instance.ts';
import { askToken, createClient, type OAuthClient } from '../helpers/oauth.ts';
import { startPair } from '../helpers/pair.ts';
import { send } from '../helpers/request.ts';
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
});
