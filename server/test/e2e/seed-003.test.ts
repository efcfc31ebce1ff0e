import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevelopmentWorld, openProductionWorld, type World } from '../helpers/worlds.ts';

/** "Your First Agent": each request as it is printed there, with only the host changed. */
describe.each([
  ['development', openDevelopmentWorld],
  ['production', openProductionWorld],
] as const)('Your First Agent in %s mode', (_mode, openWorld) => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld();
  }, 60_000);
  afterAll(() => world?.stop(), 60_000);

  const made = { agentId: '', clientId: '', secret: '', accessToken: '', refreshToken: '' };
  /** The document's host is ours, and its examples are what earlier steps gave. */
  const withOurs = (command: string) =>
    command
      .replace('http://localhost:8080', world.apiUrl)
      .replace('550e8400-e29b-41d4-a716-446655440000', made.agentId)
      .replace('cid_abc123...', made.clientId)
      .replace('cs_secret...', made.secret)
      .replace('rt_xyz789...', made.refreshToken)
      .replace(/eyJhbGciOiJSUzI1NiIs\.\.\.|\bTOKEN\b/, made.accessToken);
  const asPrinted = (command: string) => world.curl(withOurs(command));
  const asOwner = (command: string) => world.curlAsOwner(withOurs(command));

  it('step 1: creates the agent, which expires in 90 days', async () => {
    const answer = await asOwner(`curl -X POST http://localhost:8080/api/agents \\
-H "Content-Type: application/json" \\
-d '{
"name": "data-processor-agent",
"scopes": ["read", "write"],
"expires_in": 7776000
}'`);
    expect(answer.status, answer.text).toBe(201);
    const { agent, client_id, client_secret } = answer.json();
    expect(agent).toMatchObject({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      name: 'data-processor-agent',
      client_id: expect.stringMatching(/^cid_/),
      scopes: ['read', 'write'],
      is_active: true,
    });
    expect(Date.parse(agent.expires_at) - Date.parse(agent.created_at)).toBe(7_776_000_000);
    expect(client_id).toBe(agent.client_id);
    expect(client_secret).toMatch(/^cs_/);
    Object.assign(made, { agentId: agent.id, clientId: client_id, secret: client_secret });
    const shown = await asOwner(`curl http://localhost:8080/api/agents/${agent.id}`);
    expect(shown.json()).toEqual(agent);
    expect(shown.text, 'the secret is shown once').not.toContain(client_secret);
  });

  const getToken = () =>
    asPrinted(`curl -X POST http://localhost:8080/oauth/token \\
-H "Content-Type: application/json" \\
-d '{
"grant_type": "client_credentials",
"client_id": "cid_abc123...",
"client_secret": "cs_secret...",
"scope": "read write"
}'`);

  it('step 2: gets a token', async () => {
    const answer = await getToken();
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json()).toMatchObject({
      access_token: expect.stringMatching(/^eyJ/),
      token_type: 'Bearer',
      expires_in: 3600,
      scope: 'read write',
      refresh_token: expect.stringMatching(/^rt_/),
    });
    made.accessToken = answer.json().access_token;
    made.refreshToken = answer.json().refresh_token;
  });

  const freshToken = async (): Promise<string> => {
    const answer = await asPrinted(`curl -X POST http://localhost:8080/refresh \\
-H "Content-Type: application/json" -d '{"agent_id": "cid_abc123...", "token": "cs_secret..."}'`);
    expect(answer.status, answer.text).toBe(200);
    return answer.json().jwt;
  };

  const getMe = () =>
    asPrinted(`curl http://localhost:8080/api/agents/me \\
-H "Authorization: Bearer eyJhbGciOiJSUzI1NiIs..."`);
  const getUsage = () =>
    asPrinted(`curl http://localhost:8080/api/agents/me/usage \\
-H "Authorization: Bearer eyJhbGciOiJSUzI1NiIs..."`);

  it("step 3: gets the agent's own profile, and its usage", async () => {
    const me = await getMe();
    expect(me.status, me.text).toBe(200);
    expect(me.json()).toMatchObject({ id: made.agentId, name: 'data-processor-agent', is_active: true });
    await expect
      .poll(async () => (await getUsage()).json(), { timeout: 15_000 })
      .toMatchObject({
        token_count: 1,
        refresh_count: 0,
        last_activity_at: expect.any(String),
        last_token_issued_at: expect.any(String),
        rotation_history: [],
        requests_per_day: [{ tokens: 1, requests: expect.any(Number) }],
      });
  });

  it('step 4: refreshes the token', async () => {
    const answer = await asPrinted(`curl -X POST http://localhost:8080/oauth/refresh \\
-H "Content-Type: application/json" \\
-d '{
"grant_type": "refresh_token",
"refresh_token": "rt_xyz789..."
}'`);
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json()).toMatchObject({ token_type: 'Bearer', scope: 'read write' });
    expect(answer.json().refresh_token).not.toBe(made.refreshToken);
    made.accessToken = answer.json().access_token;
    made.refreshToken = answer.json().refresh_token;
  });

  it('step 5: rotates the secret: the old one stops at once, the token goes on', async () => {
    const answer =
      await asOwner(`curl -X POST http://localhost:8080/api/agents/550e8400-e29b-41d4-a716-446655440000 \\
-H "Content-Type: application/json" \\
-d '{"action": "rotate"}'`);
    expect(answer.status, answer.text).toBe(200);
    const { client_secret } = answer.json();
    expect(client_secret).toMatch(/^cs_/);
    const old = await asPrinted(`curl -X POST http://localhost:8080/refresh \\
-H "Content-Type: application/json" -d '{"agent_id": "cid_abc123...", "token": "cs_secret..."}'`);
    expect(old).toMatchObject({ status: 401 });
    expect(await getToken()).toMatchObject({ status: 401 });
    expect(await getMe()).toMatchObject({ status: 200 });
    made.secret = client_secret;
    await freshToken();
  });

  it('step 5: a refresh token of the old secret ends with it', async () => {
    const answer = await asPrinted(`curl -X POST http://localhost:8080/oauth/refresh \\
-H "Content-Type: application/json" \\
-d '{
"grant_type": "refresh_token",
"refresh_token": "rt_xyz789..."
}'`);
    expect(answer).toMatchObject({ status: 400 });
    expect(answer.json()).toMatchObject({ error: 'invalid_grant' });
  });

  it('self-service: views its own profile', async () => {
    const answer = await asPrinted(`curl http://localhost:8080/api/agents/me \\
-H "Authorization: Bearer TOKEN"`);
    expect(answer.json()).toMatchObject({ id: made.agentId });
  });

  it('self-service: rotates its own credentials', async () => {
    const answer = await asPrinted(`curl -X POST http://localhost:8080/api/agents/me/rotate \\
-H "Authorization: Bearer TOKEN"`);
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json().client_secret).not.toBe(made.secret);
    made.secret = answer.json().client_secret;
    await freshToken();
    expect((await getUsage()).json().rotation_history).toMatchObject([
      { rotated_by: 'agent' },
      { rotated_by: 'owner' },
    ]);
  });

  it('self-service: deactivates itself, its tokens included', async () => {
    const answer = await asPrinted(`curl -X POST http://localhost:8080/api/agents/me/deactivate \\
-H "Authorization: Bearer TOKEN"`);
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json()).toMatchObject({ is_active: false, status: 'inactive' });
    await expect.poll(async () => (await getMe()).status, { timeout: 5_000 }).toBe(401);
    const refused = await asPrinted(`curl -X POST http://localhost:8080/refresh \\
-H "Content-Type: application/json" -d '{"agent_id": "cid_abc123...", "token": "cs_secret..."}'`);
    expect(refused.status).toBe(401);
  });

  it('afterwards the owner starts it again: the secret works, the earlier token stays dead', async () => {
    const answer = await asOwner(`curl -X POST http://localhost:8080/api/agents/${made.agentId}/reactivate`);
    expect(answer.json()).toMatchObject({ is_active: true });
    const early = made.accessToken;
    made.accessToken = await freshToken();
    await expect.poll(async () => (await getMe()).status, { timeout: 5_000 }).toBe(200);
    made.accessToken = early;
    expect((await getMe()).status).toBe(401);
  });

  it('nobody else may do what only the owner may: without a credential it is 401 in production, and an agent is 403', async () => {
    const command = `curl http://localhost:8080/api/agents/${made.agentId}`;
    if (_mode === 'production') expect(await asPrinted(command)).toMatchObject({ status: 401 });
    made.accessToken = await freshToken();
    const asAgent = await asPrinted(`${command} -H "Authorization: Bearer TOKEN"`);
    expect(asAgent).toMatchObject({ status: 403 });
  });
});
