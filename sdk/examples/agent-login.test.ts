import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, registerAgent } from '../../server/test/helpers/agent.ts';
import { findFreePort, type Instance, startInstance } from '../../server/test/helpers/instance.ts';
import { send } from '../../server/test/helpers/request.ts';
import { callApi } from '../../server/test/helpers/seller.ts';
import { CredentialError, verifyAgentCredential } from '../src/index.ts';

const audience = 'https://shop.example';
const challenge = 'a challenge';
let instance: Instance;
let agent: Agent;
beforeAll(async () => {
  instance = await startInstance();
  agent = await registerAgent(instance);
});
afterAll(() => instance?.stop());

async function issue(body: object = { challenge, audience }): Promise<string> {
  const answer = await callApi(instance, '/agent/vc/issue', { body, credential: agent.jwt });
  return (answer.json() as { vc: string }).vc;
}

const check = (vc: string, demands: object = {}) =>
  verifyAgentCredential(vc, { issuer: instance.info.api_url, audience, challenge, ...demands });

describe('verifyAgentCredential', () => {
  it('verifies with the keys that it fetches', async () => {
    const claims = await check(await issue());
    expect(claims).toMatchObject({ sub: agent.agent_id, aud: audience, challenge });
  });

  it('refuses an access token, whatever audience is asked for', async () => {
    const refused = check(agent.jwt, { audience: instance.info.api_url });
    await expect(refused).rejects.toThrow(CredentialError);
    await expect(refused).rejects.toMatchObject({ code: 'wrong_type' });
  });
});

describe('the example', () => {
  it('has twenty lines', async () => {
    const text = await readFile(new URL('agent-login.mjs', import.meta.url), 'utf8');
    expect(text.split('\n').filter((line) => line.trim() !== '').length).toBeLessThanOrEqual(20);
  });

  it('gives a challenge, lets the agent in with the credential once, and opens a session of its own', async () => {
    await using site = await startSite();
    const asked = await site.challenge();
    const vc = await issue(asked);
    const login = { challenge: asked.challenge, vc };
    const { session } = (await site.post('/login', login)).json() as { session: string };
    const headers = { authorization: `Bearer ${session}` };
    expect((await send(`${site.url}/me`, { headers })).json()).toEqual({ agent: agent.agent_id });

    const again = await site.post('/login', login);
    expect([again.status, again.json()]).toEqual([401, { error: 'unknown_challenge' }]);
    const replayed = await site.post('/login', { ...(await site.challenge()), vc });
    expect([replayed.status, replayed.json()]).toEqual([401, { error: 'wrong_challenge' }]);
    const stranger = await site.post('/login', { ...(await site.challenge()), vc: agent.jwt });
    expect(stranger.json()).toEqual({ error: 'wrong_type' });
    expect((await send(`${site.url}/me`)).status).toBe(401);
  });

  it('blames no agent for what isn’t its fault: 503 while the keys can’t be had, 500 for a fault of its own, 400 for no JSON', async () => {
    const nobody = `http://127.0.0.1:${await findFreePort()}`;
    await using alone = await startSite({ ISSUER: nobody });
    const asked = await alone.challenge();
    const vc = await issue(asked);
    // From the issuer that is down, as far as can be told without its keys.
    const unverified = [vc.split('.')[0], claimsBy(nobody, vc), vc.split('.')[2]].join('.');
    const login = { challenge: asked.challenge, vc: unverified };
    const down = await alone.post('/login', login);
    expect([down.status, down.json()]).toEqual([503, { error: 'keys_unavailable' }]);
    expect((await alone.post('/login', login)).status, 'and its challenge isn’t used up').toBe(503);
    expect((await alone.post('/login', '{')).status).toBe(400);

    await using broken = await startSite({ ISSUER: '' });
    expect((await broken.post('/login', { ...(await broken.challenge()), vc })).status).toBe(500);
    await expect.poll(() => broken.errors()).toContain('issuer, audience and challenge are needed');
  });
});

/** The claims of a credential, with another issuer. */
function claimsBy(iss: string, vc: string): string {
  const claims = JSON.parse(Buffer.from(vc.split('.')[1] ?? '', 'base64url').toString()) as object;
  return Buffer.from(JSON.stringify({ ...claims, iss })).toString('base64url');
}

/** The example, as a program of its own. */
async function startSite(settings: Record<string, string> = {}) {
  const program = new URL('agent-login.mjs', import.meta.url).pathname;
  const { PATH = '' } = process.env;
  const env = { PATH, PORT: '0', ISSUER: instance.info.api_url, AUDIENCE: audience, ...settings };
  const site = spawn(process.execPath, [program], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  site.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const [line] = (await once(site.stdout, 'data')) as [Buffer];
  const url = `http://127.0.0.1:${line.toString().trim()}`;
  const post = (path: string, body: object | string) =>
    send(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  return {
    url,
    post,
    challenge: async () =>
      (await post('/login/challenge', {})).json() as { challenge: string; audience: string },
    errors: () => errors,
    async [Symbol.asyncDispose]() {
      site.kill();
      await once(site, 'exit');
    },
  };
}
