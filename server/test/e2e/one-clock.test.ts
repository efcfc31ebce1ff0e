import { randomBytes, randomInt } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../src/db/index.ts';
import { fundAccount } from '../../src/embedded/index.ts';
import { unixSeconds } from '../../src/kernel/clock.ts';
import { openTestDatabase } from '../helpers/database.ts';
import type { Instance } from '../helpers/instance.ts';
import {
  addKey,
  askToken,
  assertionType,
  createClient,
  newKey,
  type OAuthClient,
  postForm,
  signAssertion,
} from '../helpers/oauth.ts';
import { startPair } from '../helpers/pair.ts';
import { askTerms, network, newPayer, type Payer, sendPaid } from '../helpers/payer.ts';
import { type Answer, send } from '../helpers/request.ts';
import { callApi, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

const skewSeconds = 300;
const skew = new URL('../crash/skewed-clock.ts', import.meta.url).href;

/** On a machine whose clock is off by so much. */
const onMachine = (secondsAhead: number) => ({
  NODE_OPTIONS: `--import ${skew}`,
  CLOCK_AHEAD_SECONDS: String(secondsAhead),
});

/** On one chain as well, with one relayer. */
const onChainOf = async ({ info, dataDirectory }: Instance) => ({
  CREDENCE_SANDBOX_RPC_URL: info.rpc_url,
  CREDENCE_SANDBOX_RELAYER_KEY: `0x${(await readFile(join(dataDirectory, 'relayer.key'), 'utf8')).trim()}`,
});

const meAt = (at: Instance, credential: string) => callApi(at, '/v1/agents/me', { credential });
const refreshAt = (at: Instance, refresh_token: string) =>
  callApi(at, '/oauth/refresh', { body: { refresh_token } });

describe('where the clocks of two machines are ten minutes apart, and neither is right', () => {
  let db: Database;
  let pair: { ahead: Instance; behind: Instance };
  let upstream: Upstream;
  let sold: Sold;

  beforeAll(async () => {
    const database = await openTestDatabase();
    ({ db } = database);
    const [ahead, behind] = await startPair(database.url, randomBytes(32).toString('hex'), {
      first: onMachine(skewSeconds),
      second: async (first) => ({ ...onMachine(-skewSeconds), ...(await onChainOf(first)) }),
    });
    pair = { ahead, behind };
    upstream = await startUpstream((_request, response) => response.end('work'));
    sold = await sell(ahead, upstream.url, 'one-clock');
  }, 120_000);
  afterAll(async () => {
    await upstream?.close();
    await pair?.behind.stop();
    await pair?.ahead.stop();
  }, 60_000);

  const ways = [
    ['ahead', 'behind'],
    ['behind', 'ahead'],
  ] as const;

  const asOwner = async (at: Instance, client: OAuthClient, path: string, body: object = {}) => {
    const credential = pair.ahead.info.api_key;
    const answer = await callApi(at, `/v1/agents/${client.agentId}${path}`, { body, credential });
    expect(answer.status, answer.text).toBe(200);
  };
  it('each is told of its own, in words that say what to do', () => {
    for (const at of [pair.ahead, pair.behind]) {
      const warning =
        at
          .output()
          .split('\n')
          .find((line) => line.includes('machineAheadMs')) ?? '{}';
      const { level, msg, machineAheadMs } = JSON.parse(warning);
      expect({ level, msg }).toEqual({ level: 40, msg: expect.stringMatching(/keep it \(NTP\)/) });
      const seconds = at === pair.ahead ? skewSeconds : -skewSeconds;
      expect(Math.round(machineAheadMs / 60_000)).toBe(seconds / 60);
    }
  });

  it.each(ways)(
    'a token of the one that is %s is good on the other, and as old as it is',
    async (first, second) => {
      const client = await createClient(pair[first]);
      const { access_token } = (await askToken(pair[first], client)).json();
      for (const at of [pair[second], pair[first]]) expect((await meAt(at, access_token)).status).toBe(200);
      const { iat } = JSON.parse(Buffer.from(access_token.split('.')[1], 'base64url').toString());
      const [row] = await db.query<{ apart: number }>(
        'SELECT abs(extract(epoch FROM now()) - $1)::float8 AS apart',
        [iat],
      );
      expect(row?.apart).toBeLessThan(skewSeconds / 2);
    },
  );

  it.each(ways)(
    'a family and an access token of the one that is %s are dead for good once the other has stopped the agent',
    async (first, second) => {
      const client = await createClient(pair[first]);
      const { access_token, refresh_token } = (await askToken(pair[first], client)).json();
      await asOwner(pair[second], client, '/stop');
      await asOwner(pair[second], client, '/reactivate');
      for (const at of [pair[second], pair[first]]) {
        expect((await refreshAt(at, refresh_token)).json(), 'the family').toMatchObject({
          error: 'invalid_grant',
        });
        await expect.poll(async () => (await meAt(at, access_token)).status, { timeout: 10_000 }).toBe(401);
      }
      const fresh = (await askToken(pair[first], client)).json();
      for (const at of [pair[second], pair[first]])
        expect((await meAt(at, fresh.access_token)).status).toBe(200);
      expect((await refreshAt(pair[second], fresh.refresh_token)).status).toBe(200);
    },
  );

  it.each(ways)(
    'a family that a key began on the one that is %s ends with a rotation on the other, and one of afterwards lives',
    async (first, second) => {
      const client = await createClient(pair[first]);
      const key = await newKey();
      await addKey(pair[first], client, key);
      const begin = async () => {
        // Good for a machine that goes by its own clock as well, if that is ahead.
        const exp = unixSeconds(new Date()) + skewSeconds + 60;
        const answer = await postForm(pair[first], '/oauth/token', {
          grant_type: 'client_credentials',
          client_assertion_type: assertionType,
          client_assertion: await signAssertion(pair.ahead, client, key, { claims: { exp } }),
        });
        expect(answer.status, answer.text).toBe(200);
        return answer.json().refresh_token as string;
      };
      const before = await begin();
      await asOwner(pair[second], client, '', { action: 'rotate' });
      for (const at of [pair[second], pair[first]])
        expect((await refreshAt(at, before)).json()).toMatchObject({ error: 'invalid_grant' });
      expect((await refreshAt(pair[second], await begin())).status).toBe(200);
    },
  );

  it.each(ways)(
    'wrong credentials of ten minutes ago at the one that is %s are waited for at both alike',
    async (first, second) => {
      const client = await createClient(pair[first]);
      const from = `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`;
      const guess = async (at: Instance): Promise<Answer> =>
        send(`${at.info.api_url}/oauth/token`, {
          method: 'POST',
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
          body: `grant_type=client_credentials&client_id=${client.clientId}&client_secret=wrong`,
          from,
        });
      expect((await guess(pair[first])).status).toBe(401);
      const many = await db.query(
        "UPDATE failed_attempts SET count = 20, last_at = last_at - interval '10 minutes' WHERE key LIKE $1 RETURNING 1 AS one",
        [`pair % ${client.clientId}`],
      );
      expect(many).toHaveLength(1);
      expect((await guess(pair[second])).status, 'its first here').toBe(401);
      for (const at of [pair[second], pair[first]]) {
        const refused = await guess(at);
        expect(refused.status).toBe(429);
        expect(Number(refused.headers['retry-after'])).toBeLessThanOrEqual(60);
      }
    },
  );

  /** A payment that would be good for a machine that goes by its own clock as well. */
  async function buyAt(at: Instance, payer: Payer): Promise<Answer> {
    const url = `${at.info.gateway_url}/api/${sold.slug}/paid`;
    const validBefore = String(unixSeconds(new Date()) + 2 * skewSeconds);
    return sendPaid(url, await payer.payWith(await askTerms(url), { validAfter: '0', validBefore }));
  }

  it('relayers take turns, whichever of them settles', async () => {
    const { ahead, behind } = pair;
    const added = await callApi(ahead, '/v1/relayers', { body: { network } });
    expect(added.status, added.text).toBe(201);
    await fundAccount(ahead.info.rpc_url, { address: added.json().address, wei: 10n ** 18n });
    const payer = await newPayer(ahead);
    const turns: string[] = [];
    for (const at of [ahead, behind, behind, behind, ahead, ahead, behind]) {
      const answer = await buyAt(at, payer);
      expect(answer.status, answer.text).toBe(200);
      const [last] = await db.query<{ relayer: string }>(
        'SELECT relayer FROM settlement_transactions ORDER BY signed_at DESC LIMIT 1',
      );
      turns.push(last?.relayer ?? '');
    }
    const [one, other] = turns;
    expect(one).not.toBe(other);
    expect(turns).toEqual([one, other, one, other, one, other, one]);
  });

  it('a suspension ends at the same moment for both', async () => {
    const payer = await newPayer(pair.ahead);
    expect((await buyAt(pair.ahead, payer)).status).toBe(200);
    const endIn = async (seconds: number) => {
      const rows = await db.query(
        `UPDATE payers SET suspended_until = now() + make_interval(secs => $2) WHERE lower(payer) = lower($1) RETURNING 1 AS one`,
        [payer.address, seconds],
      );
      expect(rows).toHaveLength(1);
    };
    await endIn(skewSeconds / 2);
    for (const at of [pair.ahead, pair.behind])
      expect((await buyAt(at, payer)).json()).toMatchObject({ code: 'payer_suspended' });
    await endIn(-1);
    for (const at of [pair.ahead, pair.behind]) expect((await buyAt(at, payer)).status).toBe(200);
  });
});
