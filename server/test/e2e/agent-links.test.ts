import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, askForMandate, registerAgent } from '../helpers/agent.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { send } from '../helpers/request.ts';
import { callApi } from '../helpers/seller.ts';

let instance: Instance;
beforeAll(async () => {
  instance = await startInstance();
}, 60_000);
afterAll(() => instance?.stop(), 60_000);

/** An agent that has been told where its user links it. */
async function askForLink(): Promise<{ agent: Agent; path: string; code: string }> {
  const agent = await registerAgent(instance);
  const answer = await callApi(instance, '/v1/mandates', { credential: agent.jwt });
  expect(answer.status, answer.text).toBe(403);
  const { authorizationUrl, user_code } = answer.json();
  const path = `/v1/agent-links/${authorizationUrl.split('/').at(-1)}`;
  return { agent, path, code: user_code };
}

const isLinked = async (agent: Agent) =>
  (await callApi(instance, '/v1/mandates', { credential: agent.jwt })).status === 200;
const approve = (path: string, user_code: string, credential?: string) =>
  callApi(instance, `${path}/approve`, {
    body: { user_code },
    ...(credential === undefined ? {} : { credential }),
  });

describe('a link', () => {
  it('shows a person who asks, and looking changes nothing', async () => {
    const { agent, path, code } = await askForLink();
    const seen = await callApi(instance, path);
    expect(seen.json()).toMatchObject({
      agent_id: agent.agent_id,
      agent_name: 'Test buyer',
      client_info: 'end-to-end tests',
      asked_from: '127.0.0.1',
    });
    expect(seen.text, 'the code is the agent’s to show').not.toContain(code);
    expect(await isLinked(agent)).toBe(false);
  });

  it('is made by a person with the agent’s code, in whichever spelling, once', async () => {
    const { agent, path, code } = await askForLink();
    expect(await approve(path, code.replace('-', ' ').toLowerCase())).toMatchObject({ status: 200 });
    expect(await isLinked(agent)).toBe(true);
    expect(await approve(path, code)).toMatchObject({ status: 404 });
    const shown = await callApi(instance, `/v1/agents/${agent.agent_id}`);
    expect(shown.json()).toMatchObject({ is_owned: false, status: 'active' });
  });

  it('is never made by an API key or by an agent', async () => {
    const { agent, path, code } = await askForLink();
    for (const credential of [instance.info.api_key, agent.jwt])
      expect(await approve(path, code, credential)).toMatchObject({ status: 403 });
    expect(await isLinked(agent)).toBe(false);
  });

  it('is lost after five wrong codes; the agent then gets another address and code', async () => {
    const { agent, path, code } = await askForLink();
    for (let attempt = 0; attempt < 5; attempt += 1)
      expect(await approve(path, 'BBBB-BBBB')).toMatchObject({ status: 403 });
    expect(await approve(path, code)).toMatchObject({ status: 404 });
    const again = (await callApi(instance, '/v1/mandates', { credential: agent.jwt })).json();
    expect(again.authorizationUrl).not.toContain(path.split('/').at(-1));
    expect(again.user_code).not.toBe(code);
  });

  it('that is refused leads nowhere', async () => {
    const { agent, path, code } = await askForLink();
    expect(await callApi(instance, `${path}/refuse`, { body: {} })).toMatchObject({ status: 200 });
    expect(await approve(path, code)).toMatchObject({ status: 404 });
    expect(await isLinked(agent)).toBe(false);
  });

  it('comes with a signed mandate as well, which the agent then finds in its list', async () => {
    const agent = await registerAgent(instance);
    const { mandateId } = await askForMandate(instance, agent);
    await callApi(instance, `/v1/mandates/${mandateId}/sign`, { body: {} });
    const list = await callApi(instance, '/v1/mandates', { credential: agent.jwt });
    expect(list.json().data).toMatchObject([{ id: mandateId, status: 'signed' }]);
    const owners = await callApi(instance, '/v1/mandates?limit=1', { credential: instance.info.api_key });
    expect(owners.json().data).toMatchObject([{ id: mandateId }]);
  });
});

describe('wrong tokens', () => {
  it('wait by their address; the right one from there does not, nor does anybody else', async () => {
    const agent = await registerAgent(instance);
    const refresh = (from: string, token: string) =>
      send(`${instance.info.api_url}/refresh`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ agent_id: agent.agent_id, token }),
        from,
      });
    for (let attempt = 0; attempt < 6; attempt += 1)
      expect(await refresh('127.0.0.3', 'cs_guess')).toMatchObject({ status: 401 });
    const refused = await refresh('127.0.0.3', 'cs_guess');
    expect(refused.json()).toMatchObject({ status: 429, code: 'rate_limited' });
    expect(refused.headers['retry-after']).toBe('1');
    expect(await refresh('127.0.0.3', agent.token)).toMatchObject({ status: 200 });
    expect(await refresh('127.0.0.4', agent.token)).toMatchObject({ status: 200 });
  });
});
