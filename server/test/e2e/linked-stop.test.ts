import type { PaymentRequired } from '@x402/core/types';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../src/db/index.ts';
import { askForMandate } from '../helpers/agent.ts';
import { openTestDatabase } from '../helpers/database.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askToken, type OAuthClient, postForm } from '../helpers/oauth.ts';
import { askTerms } from '../helpers/payer.ts';
import type { Answer } from '../helpers/request.ts';
import { callApi, sell } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';
import { makeOwner } from '../helpers/worlds.ts';

const theirApi = 'https://api.linked.example';
const homeApi = 'https://api.home.example';

let db: Database;
let instance: Instance;
let upstream: Upstream;
let terms: PaymentRequired;
/** Keys of the agents' home, and of the development environment, which is merely linked to them. */
let home: string;
let linked: string;
beforeAll(async () => {
  const database = await openTestDatabase();
  db = database.db;
  instance = await startInstance({ env: { DATABASE_URL: database.url } });
  upstream = await startUpstream((_, response) => response.end('bought'));
  terms = await askTerms(`${(await sell(instance, upstream.url, 'linked-stop')).url}/paid`);
  home = (await makeOwner(db)).apiKey;
  linked = instance.info.api_key;
  await registerApi(linked, theirApi);
  await registerApi(home, homeApi);
}, 90_000);
afterAll(async () => {
  await upstream?.close();
  await instance?.stop();
}, 60_000);

async function registerApi(credential: string, identifier: string): Promise<void> {
  const body = { identifier, name: 'An API' };
  const { status, text } = await callApi(instance, '/v1/resources', { body, credential });
  if (status !== 201) throw new Error(`not registered: ${text}`);
}

const act = (action: string, agentId: string, credential: string) =>
  callApi(instance, `/v1/agents/${agentId}/${action}`, { body: {}, credential });
const done = async (answer: Promise<Answer>): Promise<Answer> => {
  const { status, text } = await answer;
  expect(status, text).toBeLessThan(300);
  return answer;
};
const seen = async (agentId: string, credential: string) =>
  (await callApi(instance, `/v1/agents/${agentId}`, { credential })).json();
const introspect = async (token: string, credential: string): Promise<boolean> =>
  (await postForm(instance, '/oauth/introspect', { token }, { 'x-api-key': credential })).json().active;

/** What the agent has of the linked environment: tokens for its API, a signed mandate, and requests that wait for its person. */
interface Held {
  client: OAuthClient;
  theirs: { access_token: string; refresh_token: string };
  plain: string;
  mandateId: string;
  waitingMandate: string;
}

const tokenFor = async (client: OAuthClient, resource?: string) =>
  (await done(askToken(instance, client, resource === undefined ? {} : { resource }))).json();
const signMandate = (mandateId: string) => callApi(instance, `/v1/mandates/${mandateId}/sign`, { body: {} });
const pay = (mandateId: string, credential: string) =>
  callApi(instance, '/v1/payments/x402', {
    body: { mandate_id: mandateId, payment_required: terms },
    credential,
  });
const getMandate = (mandateId: string, credential: string) =>
  callApi(instance, `/v1/mandates/${mandateId}`, { credential });
const listMandates = async (credential: string): Promise<string[]> =>
  (await done(callApi(instance, '/v1/mandates', { credential })))
    .json()
    .data.map(({ id }: { id: string }) => id);

async function makeHeld(): Promise<Held> {
  const made = await callApi(instance, '/v1/agents', { body: { name: 'Linked' }, credential: home });
  const { id, client_id, client_secret } = made.json();
  const client = { agentId: id, clientId: client_id, secret: client_secret };
  const { access_token: plain } = await tokenFor(client);
  const ask = () => askForMandate(instance, { agent_id: id, token: client_secret, jwt: plain });
  const { mandateId } = await ask();
  await done(signMandate(mandateId));
  const { mandateId: waitingMandate } = await ask();
  return { client, plain, mandateId, waitingMandate, theirs: await tokenFor(client, theirApi) };
}

/** What an agent might try that the linked environment has stopped, with tokens of after the stop. */
const attacks: [string, (held: Held, fresh: string) => Promise<unknown>, unknown][] = [
  [
    'a token for its API',
    async ({ client }) => (await askToken(instance, client, { resource: theirApi })).json().error,
    'invalid_target',
  ],
  [
    'its API, with the refresh token of before',
    async ({ theirs: { refresh_token } }) =>
      (await postForm(instance, '/oauth/refresh', { refresh_token })).json().error,
    'invalid_grant',
  ],
  ['its API, with a fresh token that it introspects', (_held, fresh) => introspect(fresh, linked), false],
  [
    'anything, with a token of before',
    async ({ plain }) => (await callApi(instance, '/v1/agents/me', { credential: plain })).status,
    401,
  ],
  [
    'a payment by its wallet',
    async ({ mandateId }, fresh) => (await pay(mandateId, fresh)).json().decision?.reason_codes,
    ['agent_inactive'],
  ],
  ['its mandate', async ({ mandateId }, fresh) => (await getMandate(mandateId, fresh)).status, 403],
  [
    'its mandates in the list',
    async ({ mandateId }, fresh) => (await listMandates(fresh)).includes(mandateId),
    false,
  ],
  [
    'one more mandate, which its person signs unaware',
    async ({ waitingMandate }) => (await signMandate(waitingMandate)).json().code,
    'conflict',
  ],
];

/** What home may do about it. */
const homes: [string, (agentId: string) => Promise<unknown>][] = [
  ['does nothing', () => Promise.resolve()],
  ['reactivates it', (id) => done(act('reactivate', id, home))],
  [
    'stops and reactivates it',
    async (id) => [await done(act('stop', id, home)), await done(act('reactivate', id, home))],
  ],
  [
    'deactivates and reactivates it',
    async (id) => [await done(act('deactivate', id, home)), await done(act('reactivate', id, home))],
  ],
  [
    'gives it another secret',
    async (id) => [
      await done(callApi(instance, `/v1/agents/${id}/credentials`, { body: {}, credential: home })),
    ],
  ],
];

describe.each([
  ['stop', (id: string) => act('stop', id, linked)],
  ['stop-all', () => callApi(instance, '/v1/agents/stop-all', { body: {}, credential: linked })],
])('a %s by an environment that is linked, but not home,', { timeout: 60_000 }, (_name, stop) => {
  it.each(homes)('lasts: where home %s, the agent gets nothing of it', async (_what, atHome) => {
    const held = await makeHeld();
    expect((await pay(held.mandateId, held.plain)).status).toBe(201);
    expect(await introspect(held.theirs.access_token, linked)).toBe(true);
    const { agentId } = held.client;
    await done(stop(agentId));
    await atHome(agentId);
    const fresh = (await tokenFor(held.client)).access_token;
    const got = await Promise.all(attacks.map(async ([what, attempt]) => [what, await attempt(held, fresh)]));
    expect(got).toEqual(attacks.map(([what, , outcome]) => [what, outcome]));
  });

  it('is that environment’s alone: home and its API have the agent as ever, but for the tokens of before', async () => {
    const { client, plain } = await makeHeld();
    const before = await tokenFor(client, homeApi);
    await done(stop(client.agentId));
    expect(await seen(client.agentId, linked)).toMatchObject({
      status: 'suspended',
      is_active: false,
      stopped_at: expect.stringMatching(/Z$/),
    });
    expect(await seen(client.agentId, home)).toMatchObject({
      status: 'active',
      is_active: true,
      stopped_at: null,
    });
    for (const token of [plain, before.access_token]) expect(await introspect(token, home)).toBe(false);
    const { access_token, refresh_token } = await tokenFor(client, homeApi);
    expect(await introspect(access_token, home)).toBe(true);
    expect((await postForm(instance, '/oauth/refresh', { refresh_token })).status).toBe(200);
    const me = await callApi(instance, '/v1/agents/me', {
      credential: (await tokenFor(client)).access_token,
    });
    expect(me.json()).toMatchObject({ status: 'active' });
  });

  it('is found by its status in the lists of who has stopped it, and of nobody else', async () => {
    const { agentId } = (await makeHeld()).client;
    await done(stop(agentId));
    const found = async (credential: string, status: string): Promise<boolean> =>
      (await callApi(instance, `/v1/agents?limit=100&status=${status}`, { credential }))
        .json()
        .data.some(({ id }: { id: string }) => id === agentId);
    expect(await Promise.all([found(linked, 'suspended'), found(linked, 'active')])).toEqual([true, false]);
    expect(await Promise.all([found(home, 'suspended'), found(home, 'active')])).toEqual([false, true]);
  });

  it('is lifted by that environment: the agent then has what it had, and home’s stop stands', async () => {
    const { client, mandateId, waitingMandate } = await makeHeld();
    const { agentId } = client;
    await done(stop(agentId));
    const meanwhile = (await tokenFor(client)).access_token;
    expect((await done(act('reactivate', agentId, linked))).json()).toMatchObject({
      status: 'active',
      stopped_at: null,
    });
    expect((await pay(mandateId, meanwhile)).status).toBe(201);
    expect(await introspect((await tokenFor(client, theirApi)).access_token, linked)).toBe(true);
    await done(signMandate(waitingMandate));
    expect(await listMandates(meanwhile)).toEqual([waitingMandate, mandateId]);

    await done(stop(agentId));
    await done(act('stop', agentId, home));
    expect((await done(act('reactivate', agentId, linked))).json()).toMatchObject({ status: 'suspended' });
    expect((await act('reactivate', agentId, linked)).json().code).toBe('forbidden');
    expect((await askToken(instance, client)).status).toBe(401);
  });
});

describe('an agent that registered itself', { timeout: 30_000 }, () => {
  it('and serves one environment is dead by its stop: token, jwt and all', async () => {
    const body = { agent_name: 'Self', client_info: 'x' };
    const agent = (await done(callApi(instance, '/register', { body }))).json();
    const { mandateId } = await askForMandate(instance, agent);
    await done(signMandate(mandateId));
    await done(act('stop', agent.agent_id, linked));
    const refresh = () =>
      callApi(instance, '/refresh', { body: { agent_id: agent.agent_id, token: agent.token } });
    expect((await refresh()).status).toBe(401);
    expect((await pay(mandateId, agent.jwt)).status).toBe(401);
    await done(act('reactivate', agent.agent_id, linked));
    const { jwt } = (await done(refresh())).json();
    expect((await pay(mandateId, jwt)).status).toBe(201);
  });
});

describe('a token that was granted at the very moment of a stop', () => {
  it('is not active for whoever asks, as long as the stop stands', async () => {
    const { client, theirs } = await makeHeld();
    const own = { client_id: client.clientId, client_secret: client.secret };
    const isActive = async (token: string): Promise<boolean> =>
      (await postForm(instance, '/oauth/introspect', { ...own, token })).json().active;
    const actives = () => Promise.all([isActive(theirs.access_token), isActive(theirs.refresh_token)]);
    expect(await actives()).toEqual([true, true]);
    // The stop alone, as if it had been dated a moment before the tokens.
    await db.query('UPDATE agent_links SET stopped_at = now() WHERE agent_id = $1 AND environment_id = $2', [
      client.agentId,
      instance.info.environment_id,
    ]);
    expect(await actives()).toEqual([false, false]);
    const refreshed = await postForm(instance, '/oauth/refresh', { refresh_token: theirs.refresh_token });
    expect(refreshed.json().error).toBe('invalid_target');
  });
});

describe('an agent that pays all the time', { timeout: 60_000 }, () => {
  it('is stopped as any other, and pays no more', async () => {
    const { client, mandateId, plain } = await makeHeld();
    const outcomes: number[] = [];
    // More than the stop could find a gap between, whether the mandate still allows them or not.
    const payAll = async () => {
      while (outcomes.at(-1) !== 401) outcomes.push((await pay(mandateId, plain)).status);
    };
    const paying = Array.from({ length: 24 }, payAll);
    await expect.poll(() => outcomes.length, { timeout: 30_000 }).toBeGreaterThan(24);
    await done(act('stop', client.agentId, linked));
    await Promise.all(paying);
    expect((await pay(mandateId, (await tokenFor(client)).access_token)).status).toBe(403);
  });
});

describe('a link that a person makes anew', () => {
  it('does not lift their stop by the way', async () => {
    const body = { agent_name: 'Self', client_info: 'x' };
    const agent = (await done(callApi(instance, '/register', { body }))).json();
    const refused = (await callApi(instance, '/v1/mandates', { credential: agent.jwt })).json();
    const { mandateId } = await askForMandate(instance, agent);
    await done(signMandate(mandateId));
    await done(act('stop', agent.agent_id, linked));
    const path = `/v1/agent-links/${refused.authorizationUrl.split('/').at(-1)}/approve`;
    const approved = await callApi(instance, path, { body: { user_code: refused.user_code } });
    expect(approved.json(), approved.text).toMatchObject({ status: 409, code: 'conflict' });
    expect(await seen(agent.agent_id, linked)).toMatchObject({ status: 'suspended' });
  });
});
