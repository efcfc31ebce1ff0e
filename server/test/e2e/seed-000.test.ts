import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevelopmentWorld, openProductionWorld, type World } from '../helpers/worlds.ts';

/** "Agent ID": each request as it is printed there, with only the host changed. */
describe.each([
  ['development', openDevelopmentWorld],
  ['production', openProductionWorld],
] as const)('the Agent ID walk-through in %s mode', (_mode, openWorld) => {
  let world: World;
  beforeAll(async () => {
    world = await openWorld();
  }, 60_000);
  afterAll(() => world?.stop(), 60_000);

  /** The document's hosts are ours, and its placeholders what earlier steps gave. */
  const asPrinted = (command: string) =>
    world.curl(
      command
        .replaceAll(/https:\/\/(?:agentid|walletapi)\.fluxapay\.xyz/g, world.apiUrl)
        .replace('<YOUR_AGENT_ID>', agent.agent_id)
        .replace('<YOUR_TOKEN>', agent.token)
        .replace('$JWT_TOKEN', agent.jwt),
    );
  let agent = { agent_id: '', token: '', jwt: '' };
  let authorization = { authorizationUrl: '', user_code: '' };

  it('step 1: registers, and gets agent_id, token and jwt', async () => {
    const answer = await asPrinted(`curl -X POST https://agentid.fluxapay.xyz/register \\
-H "Content-Type: application/json" \\
-d '{
"agent_name": "My Trading Agent",
"client_info": "trading-bot-v1"
}'`);
    expect(answer.status, answer.text).toBe(201);
    agent = answer.json();
    expect(Object.keys(agent).toSorted()).toEqual(['agent_id', 'jwt', 'token']);
    expect(agent.agent_id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/);
  });

  it('step 2: gets a fresh jwt for agent_id and token, which stays good', async () => {
    for (let time = 0; time < 2; time += 1) {
      const answer = await asPrinted(`curl -X POST https://agentid.fluxapay.xyz/refresh \\
-H "Content-Type: application/json" \\
-d '{
"agent_id": "<YOUR_AGENT_ID>",
"token": "<YOUR_TOKEN>"
}'`);
      expect(answer.status, answer.text).toBe(200);
      const { jwt } = answer.json();
      expect(jwt).not.toBe(agent.jwt);
      agent = { ...agent, jwt };
    }
  });

  const listMandates = () =>
    asPrinted(`curl https://walletapi.fluxapay.xyz/api/mandates \\
-H "Authorization: Bearer $JWT_TOKEN"`);

  it('step 3: is told, not being authorized, which authorizationUrl its user should open', async () => {
    const answer = await listMandates();
    expect(answer.status, answer.text).toBe(403);
    authorization = answer.json();
    expect(answer.json()).toMatchObject({
      code: 'agent_not_linked',
      authorizationUrl: expect.stringContaining(`${world.apiUrl}/links/lnk_`),
      user_code: expect.stringMatching(/^[A-Z]{4}-[A-Z]{4}$/),
      next: { authorizationUrl: authorization.authorizationUrl, user_code: authorization.user_code },
    });
    expect((await listMandates()).json(), 'asked again').toMatchObject(authorizationOf(answer.json()));
  });

  it('step 3: the user opens it, which changes nothing, and types the code, which links the agent', async () => {
    const page = await world.curl(`curl ${authorization.authorizationUrl}`);
    expect(page).toMatchObject({ status: 200, headers: { 'content-type': 'text/html; charset=utf-8' } });
    expect((await listMandates()).status).toBe(403);
    await world.link(authorization.authorizationUrl, authorization.user_code);
  });

  it('step 3: gets a valid response: its Agent ID is ready', async () => {
    const answer = await listMandates();
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json()).toEqual({ data: [], has_more: false, next_cursor: null });
  });

  it('publishes RS256 keys at /.well-known/jwks.json', async () => {
    const answer = await asPrinted('curl https://agentid.fluxapay.xyz/.well-known/jwks.json');
    expect(answer.json().keys).toContainEqual(expect.objectContaining({ kty: 'RSA', alg: 'RS256' }));
  });

  it('signs in to a third party with a credential that is bound to its challenge and audience', async () => {
    const issued = await asPrinted(`curl -X POST https://agentid.fluxapay.xyz/agent/vc/issue \\
-H "Authorization: Bearer $JWT_TOKEN" \\
-H "Content-Type: application/json" \\
-d '{"challenge": "n-0S6_WzA2Mj", "audience": "https://partner.example"}'`);
    expect(issued.status, issued.text).toBe(200);
    const verify = (challenge: string) =>
      asPrinted(`curl -X POST https://agentid.fluxapay.xyz/verify-vc \\
-H "Content-Type: application/json" \\
-d '{"vc": "${issued.json().vc}", "audience": "https://partner.example", "challenge": "${challenge}"}'`);
    expect((await verify('n-0S6_WzA2Mj')).json()).toMatchObject({
      valid: true,
      payload: { sub: agent.agent_id },
    });
    expect((await verify('another')).json()).toMatchObject({ valid: false });
  });
});

function authorizationOf(body: { authorizationUrl: string; user_code: string }) {
  return { authorizationUrl: body.authorizationUrl, user_code: body.user_code };
}
