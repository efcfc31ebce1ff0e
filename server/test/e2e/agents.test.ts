import { randomUUID } from 'node:crypto';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { sha256 } from '../../src/kernel/crypto.ts';
import type { Answer } from '../helpers/request.ts';
import { makeOwner, openProductionWorld, type ProductionWorld } from '../helpers/worlds.ts';

let world: ProductionWorld;
let owner: string;
let stranger: string;
beforeAll(async () => {
  world = await openProductionWorld();
  owner = world.apiKey;
  stranger = (await makeOwner(world.db)).apiKey;
}, 60_000);
afterAll(() => world?.stop(), 60_000);

interface Made {
  id: string;
  client_id: string;
  client_secret: string;
}

const call = (path: string, sending: Parameters<ProductionWorld['call']>[1] = {}) =>
  world.call(path, { credential: owner, ...sending });

async function create(body: object = {}, credential = owner): Promise<Made> {
  const answer = await call('/v1/agents', { body: { name: 'An agent', ...body }, credential });
  expect(answer.status, answer.text).toBe(201);
  return answer.json() as Made;
}

const refresh = (agent: Made, secret = agent.client_secret) =>
  world.call('/refresh', { body: { agent_id: agent.client_id, token: secret } });

async function tokenOf(agent: Made): Promise<string> {
  const answer = await refresh(agent);
  expect(answer.status, answer.text).toBe(200);
  return answer.json().jwt as string;
}

const meOf = async (credential: string) => (await call('/v1/agents/me', { credential })).status;

function expectCode(answer: Answer, status: number, code: string): void {
  expect(answer.json(), answer.text).toMatchObject({ status, code });
}

describe('an agent of another environment', () => {
  it('is a 404 on every route, as one that never was', async () => {
    const { id } = await create();
    const never = '01890000-0000-7000-8000-000000000000';
    for (const agentId of [id, never, 'agt_5d1f9b3a']) {
      const path = `/v1/agents/${agentId}`;
      for (const [method, rest, body] of [
        ['GET', '', undefined],
        ['PATCH', '', { name: 'Mine' }],
        ['POST', '', { action: 'rotate' }],
        ['DELETE', '', undefined],
        ['GET', '/usage', undefined],
        ['GET', '/credentials', undefined],
        ['POST', '/credentials', {}],
        ['DELETE', '/credentials/cred_01h455vb4pex5vsknk084sn02q', undefined],
        ['POST', '/stop', {}],
        ['POST', '/deactivate', {}],
        ['POST', '/reactivate', {}],
      ] as const)
        expectCode(await call(path + rest, { method, body, credential: stranger }), 404, 'not_found');
    }
    expect((await call('/v1/agents', { credential: stranger })).json().data).toEqual([]);
    expect(await call(`/v1/agents/${id}`)).toMatchObject({ status: 200 });
  });

  it('is not stopped with all of one’s own', async () => {
    const [mine, theirs] = [await create({}, stranger), await create()];
    const stopped = await call('/v1/agents/stop-all', { body: {}, credential: stranger });
    expect(stopped.json()).toEqual({ stopped: 1 });
    expect((await refresh(mine)).status).toBe(401);
    expect((await refresh(theirs)).status).toBe(200);
  });
});

describe('stopping all agents', () => {
  it('with an Idempotency-Key stops once, and answers the same again; for anything else the key is spent', async () => {
    const credential = (await makeOwner(world.db)).apiKey;
    await create({}, credential);
    await create({}, credential);
    const headers = { 'idempotency-key': `stop-${randomUUID()}` };
    const stopAll = (body: object = {}) => call('/v1/agents/stop-all', { body, credential, headers });
    expect((await stopAll()).json()).toEqual({ stopped: 2 });
    const later = await create({}, credential);
    expect((await stopAll()).json()).toEqual({ stopped: 2 });
    expect((await refresh(later)).status).toBe(200);
    expectCode(await stopAll({ all: true }), 400, 'invalid_request');
    const other = await call(`/v1/agents/${later.id}/stop`, { body: {}, credential, headers });
    expectCode(other, 409, 'idempotency_key_reused');
    const events = await call('/audit-logs?action=agent.stopped', { credential });
    expect(events.json().data).toHaveLength(2);
  });
});

describe('the scopes', () => {
  it('of an API key open what they say: agents:read reads, agents:write is needed for the rest', async () => {
    const reader = (await makeOwner(world.db, ['agents:read'])).apiKey;
    expect((await call('/v1/agents', { credential: reader })).status).toBe(200);
    for (const path of ['/v1/agents', '/v1/agents/stop-all'])
      expectCode(await call(path, { body: { name: 'A' }, credential: reader }), 403, 'forbidden');
    const other = (await makeOwner(world.db, ['servers:read'])).apiKey;
    expectCode(await call('/v1/agents', { credential: other }), 403, 'forbidden');
  });

  it('of an agent open no management route, whatever they are called', async () => {
    const agent = await create({ scopes: ['agents:read', 'agents:write', 'servers:write', 'admin', '*'] });
    const credential = await tokenOf(agent);
    for (const [path, body] of [
      ['/v1/agents', undefined],
      ['/v1/agents', { name: 'Another' }],
      [`/v1/agents/${agent.id}`, undefined],
      [`/v1/agents/${agent.id}`, { action: 'rotate' }],
      [`/v1/agents/${agent.id}/credentials`, {}],
      [`/v1/agents/${agent.id}/reactivate`, {}],
      ['/v1/agents/stop-all', {}],
      ['/v1/servers', undefined],
      ['/audit-logs', undefined],
    ] as const)
      expectCode(await call(path, { body, credential }), 403, 'forbidden');
    expect(await meOf(credential)).toBe(200);
  });
});

describe('the agents of an environment', () => {
  it('are created with what an owner notes down, and are the same under every prefix of the API', async () => {
    const answer = await call('/v1/agents', {
      body: {
        name: 'Buyer',
        type: 'shopping',
        ownerOrgId: world.environment.organisationId,
        tags: ['eu', 'b2b'],
        metadata: { team: { id: 7 } },
        description: 'Buys paper',
      },
    });
    expect(answer.status, answer.text).toBe(201);
    const { agent, ...rest } = answer.json();
    expect(rest).toEqual({
      id: agent.id,
      agent_id: agent.id,
      client_id: agent.client_id,
      client_secret: expect.stringMatching(/^cs_[0-9A-Za-z]{49}$/),
    });
    expect(agent).toMatchObject({ type: 'shopping', tags: ['eu', 'b2b'], metadata: { team: { id: 7 } } });
    for (const prefix of ['/api', '/api/v1'])
      expect((await call(`${prefix}/agents/${agent.id}`)).json()).toEqual(agent);
  });

  it.each([
    ['another organisation as owner', { ownerOrgId: 'org_other' }, 404, 'not_found'],
    ['a field nobody knows', { scope: 'read' }, 400, 'invalid_request'],
    ['a scope with a space', { scopes: ['read write'] }, 400, 'invalid_request'],
    ['an end in the past', { expires_in: 0 }, 400, 'invalid_request'],
    ['a novel of metadata', { metadata: { text: 'x'.repeat(11_000) } }, 400, 'invalid_request'],
    ['a name of two lines', { name: 'one\ntwo' }, 400, 'invalid_request'],
  ])('are not created with %s', async (_what, body, status, code) => {
    expectCode(await call('/v1/agents', { body: { name: 'A', ...body } }), status, code);
  });

  it('are listed in pages, newest first, and found by words and tags', async () => {
    const { apiKey: credential } = await makeOwner(world.db);
    const ids: string[] = [];
    for (const name of ['Zero', 'one 100%', 'Two_x', 'three'])
      ids.unshift((await create({ name, tags: name === 'Zero' ? ['a'] : ['a', 'b'] }, credential)).id);
    const list = async (query: string) => (await call(`/v1/agents?${query}`, { credential })).json();
    const first = await list('limit=3');
    expect(first.data.map(({ id }: Made) => id)).toEqual(ids.slice(0, 3));
    const second = await list(`limit=3&cursor=${first.next_cursor}`);
    expect(second).toMatchObject({ data: [{ id: ids[3] }], has_more: false, next_cursor: null });
    const namesOf = async (query: string) =>
      (await list(query)).data.map(({ name }: { name: string }) => name);
    expect(await namesOf('q=ZERO')).toEqual(['Zero']);
    expect(await namesOf('q=0%25')).toEqual(['one 100%']);
    expect(await namesOf('q=o_x')).toEqual(['Two_x']);
    expect(await namesOf('tags=a,b')).toHaveLength(3);
    expect(await namesOf('status=suspended')).toEqual([]);
    expectCode(await call('/v1/agents?cursor=nowhere', { credential }), 400, 'invalid_request');
  });

  it('change in what is named and in nothing else; an end that has come ends their tokens', async () => {
    const agent = await create({ tags: ['kept'], scopes: ['read'] });
    const credential = await tokenOf(agent);
    const patch = async (body: object) =>
      (await call(`/v1/agents/${agent.id}`, { method: 'PATCH', body })).json();
    expect(await patch({ name: 'New' })).toMatchObject({ name: 'New', tags: ['kept'], scopes: ['read'] });
    expect(await patch({ expires_at: '2020-01-01T00:00:00Z' })).toMatchObject({ is_active: false });
    await expect.poll(() => meOf(credential), { timeout: 5_000 }).toBe(401);
    expect((await refresh(agent)).status).toBe(401);
    expect(await patch({ expires_at: null })).toMatchObject({ is_active: true });
    expectCode(await call(`/v1/agents/${agent.id}`, { method: 'PATCH', body: {} }), 400, 'invalid_request');
  });

  it('are deleted with 204, and gone: token, secret and page', async () => {
    const agent = await create();
    const credential = await tokenOf(agent);
    const answer = await call(`/v1/agents/${agent.id}`, { method: 'DELETE' });
    expect(answer).toMatchObject({ status: 204, text: '' });
    expectCode(await call(`/v1/agents/${agent.id}`), 404, 'not_found');
    await expect.poll(() => meOf(credential), { timeout: 5_000 }).toBe(401);
    expect((await refresh(agent)).status).toBe(401);
  });
});

describe('credentials', () => {
  it('are listed page by page, all of them, and each once', async () => {
    const agent = await create();
    const path = `/v1/agents/${agent.id}`;
    for (let time = 0; time < 6; time += 1) await call(path, { body: { action: 'rotate' } });
    const seen: string[] = [];
    let cursor: string | null = '';
    for (let page = 0; cursor !== null && page < 9; page += 1) {
      const query: string = cursor === '' ? '' : `&cursor=${cursor}`;
      const listed: Answer = await call(`${path}/credentials?limit=3${query}`);
      const answer = listed.json();
      expect(answer.has_more).toBe(answer.next_cursor !== null);
      seen.push(...answer.data.map(({ id }: { id: string }) => id));
      cursor = answer.next_cursor;
    }
    expect(seen).toHaveLength(7);
    const whole = (await call(`${path}/credentials?limit=100`)).json();
    expect(whole).toMatchObject({ has_more: false, next_cursor: null });
    expect(whole.data.map(({ id }: { id: string }) => id)).toEqual(seen);
    expect((await call(`${path}/credentials?cursor=nonsense`)).status).toBe(400);
    expect((await call(`${path}/usage`)).json().rotation_history).toHaveLength(6);
  });

  it('are two secrets at most, each shown once, and end by revocation', async () => {
    const agent = await create();
    const path = `/v1/agents/${agent.id}/credentials`;
    const second = await call(path, { body: {} });
    expect(second.status, second.text).toBe(201);
    const { id, client_secret } = second.json();
    expectCode(await call(path, { body: { type: 'secret' } }), 409, 'conflict');
    expect((await refresh(agent, client_secret)).status).toBe(200);
    expect(await call(`${path}/${id}`, { method: 'DELETE' })).toMatchObject({ status: 204 });
    expect((await refresh(agent, client_secret)).status).toBe(401);
    expect((await refresh(agent)).status).toBe(200);
    const list = await call(path);
    expect(list.json().data).toMatchObject([
      { id, state: 'revoked', type: 'secret' },
      { state: 'active', display_prefix: agent.client_secret.slice(0, 7) },
    ]);
    for (const secret of [client_secret, agent.client_secret]) {
      expect(list.text).not.toContain(secret);
      expect(list.text).not.toContain(sha256(secret).toString('hex'));
    }
  });

  it('are public keys, known by their thumbprints, one of each', async () => {
    const agent = await create();
    const path = `/v1/agents/${agent.id}/credentials`;
    // RFC 8037 appendix A.3.
    const public_key = {
      kty: 'OKP',
      crv: 'Ed25519',
      x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo',
    };
    const body = { type: 'public_key', public_key };
    const answer = await call(path, { body });
    expect(answer.status, answer.text).toBe(201);
    expect(answer.json()).toMatchObject({
      type: 'public_key',
      public_key,
      thumbprint: 'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k',
    });
    expect(answer.json()).not.toHaveProperty('client_secret');
    expectCode(await call(path, { body }), 409, 'conflict');
    for (const wrong of [{ public_key }, { type: 'public_key' }, { type: 'secret', public_key }])
      expectCode(await call(path, { body: wrong }), 400, 'invalid_request');
  });

  it('of the first version keep working: cs_ and 43 characters, without a checksum', async () => {
    const agent = await create();
    const old = `cs_${'a-_Z0'.repeat(8)}abc`;
    await world.db.query(
      'UPDATE agent_credentials SET secret_hash = $2, display_prefix = NULL WHERE agent_id = $1',
      [agent.id, sha256(old)],
    );
    expect((await refresh(agent, old)).status).toBe(200);
    expect((await refresh(agent)).status).toBe(401);
  });

  it('come once for one Idempotency-Key, with the same secret', async () => {
    const headers = { 'idempotency-key': 'create once' };
    expectCode(await call('/v1/agents', { body: { name: 'Once' }, headers }), 400, 'invalid_request');
    const key = { 'idempotency-key': 'create-once' };
    const send = () => call('/v1/agents', { body: { name: 'Once' }, headers: key });
    const [first, second] = [await send(), await send()];
    expect(second.json()).toEqual(first.json());
    expect(first.json().client_secret).toMatch(/^cs_/);
  });

  it('come again for an Idempotency-Key for ten minutes, and then the answer says that they are gone', async () => {
    const agent = await create();
    const credential = await tokenOf(agent);
    const asks: [string, object, { credential?: string }][] = [
      ['/v1/agents', { name: 'Late' }, {}],
      [`/v1/agents/${agent.id}`, { action: 'rotate', grace_seconds: 60 }, {}],
      ['/v1/agents/me/rotate', { grace_seconds: 60 }, { credential }],
      [`/v1/agents/${(await create()).id}/credentials`, {}, {}],
    ];
    for (const [path, body, as] of asks) {
      const key = `late-${randomUUID()}`;
      const send = () => call(path, { body, headers: { 'idempotency-key': key }, ...as });
      const { client_secret, ...rest } = (await send()).json();
      expect(client_secret, path).toMatch(/^cs_/);
      expect((await send()).json()).toEqual({ client_secret, ...rest });
      await world.db.query(
        "UPDATE idempotency_keys SET created_at = created_at - interval '10 minutes' WHERE key = $1",
        [key],
      );
      expect((await send()).json()).toEqual({ secret_available: false, ...rest });
    }
  });
});

describe('the jwt of an agent', () => {
  it('ends with the agent, if that is sooner than in a quarter of an hour', async () => {
    const agent = await create({ expires_in: 60 });
    const { expires_at } = (await call(`/v1/agents/${agent.id}`)).json();
    const { exp } = decodeJwt(await tokenOf(agent));
    expect(exp).toBeLessThanOrEqual(Date.parse(expires_at) / 1000);
    expect(exp).toBeGreaterThan(Date.parse(expires_at) / 1000 - 30);
  });
});

describe('an expires_at', () => {
  it.each(['9999-12-31T23:59:60Z', '9999-12-31T23:59:59-23:59', '0000-01-01T00:00:00Z'])(
    'of a time that cannot be kept (%s) is refused by name',
    async (expires_at) => {
      const { id } = await create();
      const answer = await call(`/v1/agents/${id}`, { method: 'PATCH', body: { expires_at } });
      expectCode(answer, 400, 'invalid_request');
      const fields = answer.json().errors.map(({ field }: { field: string }) => field);
      expect(new Set(fields)).toEqual(new Set(['expires_at']));
    },
  );
});

describe('wrong secrets', () => {
  it('make the address wait that sent them, told apart behind the proxy, and not the owner', async () => {
    const agent = await create();
    const body = { agent_id: agent.client_id, token: 'cs_guess' };
    const guess = () => world.call('/refresh', { body, from: '127.0.0.5' });
    for (let attempt = 0; attempt < 6; attempt += 1) expect((await guess()).status).toBe(401);
    expectCode(await guess(), 429, 'rate_limited');
    expect((await refresh(agent)).status).toBe(200);
  });
});

const guessRefreshToken = () =>
  world.call('/oauth/refresh', { body: { refresh_token: 'rt_guess' }, from: '127.0.0.6' });
const countRefusals = async () =>
  (await world.db.query("SELECT 1 FROM audit_events WHERE action = 'agent.refresh_refused'")).length;

describe('refresh tokens that nobody was given', () => {
  it('make the address wait that sent them, and write nothing then', async () => {
    for (let attempt = 0; attempt < 6; attempt += 1) expect((await guessRefreshToken()).status).toBe(400);
    const before = await countRefusals();
    expect((await guessRefreshToken()).status).toBe(429);
    expect(await countRefusals()).toBe(before);
  });
});

describe('an emergency stop', () => {
  it('ends token and secret within 5 s; started again, the secret works and the earlier token never does', async () => {
    const agent = await create();
    const before = await tokenOf(agent);
    expect(await meOf(before)).toBe(200);
    const stopped = await call(`/v1/agents/${agent.id}/stop`, { body: {} });
    expect(stopped.json()).toMatchObject({ status: 'suspended', is_active: false });
    await expect.poll(() => meOf(before), { timeout: 5_000 }).toBe(401);
    expect((await refresh(agent)).status).toBe(401);

    const started = await call(`/v1/agents/${agent.id}/reactivate`, { body: {} });
    expect(started.json()).toMatchObject({ status: 'active', is_active: true });
    const after = await tokenOf(agent);
    await expect.poll(() => meOf(after), { timeout: 5_000 }).toBe(200);
    expect(await meOf(before)).toBe(401);
  });
});
