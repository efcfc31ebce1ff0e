import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, registerAgent } from '../../server/test/helpers/agent.ts';
import { type Instance, startInstance } from '../../server/test/helpers/instance.ts';
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
    const program = new URL('agent-login.mjs', import.meta.url).pathname;
    const { PATH = '' } = process.env;
    const env = { PATH, PORT: '0', ISSUER: instance.info.api_url, AUDIENCE: audience };
    const site = spawn(process.execPath, [program], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      const [line] = (await once(site.stdout, 'data')) as [Buffer];
      const url = `http://127.0.0.1:${line.toString().trim()}`;
      const post = (path: string, body: object) =>
        send(`${url}${path}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify(body),
        });

      const asked = (await post('/login/challenge', {})).json() as { challenge: string; audience: string };
      const vc = await issue(asked);
      const login = { challenge: asked.challenge, vc };
      const { session } = (await post('/login', login)).json() as { session: string };
      const headers = { authorization: `Bearer ${session}` };
      expect((await send(`${url}/me`, { headers })).json()).toEqual({ agent: agent.agent_id });

      expect((await post('/login', login)).json()).toEqual({ error: 'unknown_challenge' });
      const second = (await post('/login/challenge', {})).json() as { challenge: string };
      const replayed = await post('/login', { challenge: second.challenge, vc });
      expect([replayed.status, replayed.json()]).toEqual([401, { error: 'wrong_challenge' }]);
      const third = (await post('/login/challenge', {})).json() as { challenge: string };
      const stranger = await post('/login', { challenge: third.challenge, vc: agent.jwt });
      expect(stranger.json()).toEqual({ error: 'wrong_type' });
      expect((await send(`${url}/me`)).status).toBe(401);
    } finally {
      site.kill();
      await once(site, 'exit');
    }
  });
});
