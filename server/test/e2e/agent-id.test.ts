import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, registerAgent } from '../helpers/agent.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askTerms, newPayer, sendPaid } from '../helpers/payer.ts';
import { type Answer, send } from '../helpers/request.ts';
import { callApi, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

describe('X-Agent-ID', { timeout: 20_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let agent: Agent;

  beforeAll(async () => {
    instance = await startInstance();
    upstream = await startUpstream((_, response) => response.end('answered'));
    sold = await sell(instance, upstream.url, 'agent-id');
    agent = await registerAgent(instance);
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  const callAs = (value: string | undefined, path = '/free') =>
    send(`${sold.url}${path}`, { headers: value === undefined ? {} : { 'x-agent-id': value } });

  it.each([undefined, '', '   '])(
    'missing (%j) is 400 "Missing X-Agent-ID", on a free path and on a priced one',
    async (value) => {
      for (const path of ['/free', '/paid']) {
        const answer = await callAs(value, path);
        expectCode(answer, 400, 'missing_agent_id');
        expect(answer.json().title).toBe('Missing X-Agent-ID');
      }
    },
  );

  it.each(['two words', 'é', 'x'.repeat(201)])('that is no id (%j) is 400', async (value) => {
    expectCode(await callAs(value), 400, 'invalid_request');
  });

  it('that holds a fresh jwt of ours, or of POST /refresh, is accepted', async () => {
    expect(await callAs(agent.jwt)).toMatchObject({ status: 200, text: 'answered' });
    const { jwt } = (await callApi(instance, '/refresh', { body: agent })).json();
    expect(await callAs(jwt)).toMatchObject({ status: 200, text: 'answered' });
  });

  it('that holds a token which is expired, foreign, altered or unsigned is 401', async () => {
    const { privateKey, publicKey } = await generateKeyPair('RS256');
    const [head = '', claims = '', signature = ''] = agent.jwt.split('.');
    const { kid } = JSON.parse(Buffer.from(head, 'base64url').toString());
    const ours = JSON.parse(Buffer.from(claims, 'base64url').toString());
    const sign = (more: object, exp: number) =>
      new SignJWT({ ...ours, exp })
        .setProtectedHeader({ alg: 'RS256', typ: 'at+jwt', kid, ...more })
        .sign(privateKey);
    const tokens = [
      await sign({}, ours.exp),
      await sign({ jwk: await exportJWK(publicKey) }, ours.exp),
      await sign({}, ours.iat - 10),
      `${head}.${part({ ...ours, exp: ours.exp + 1 })}.${signature}`,
      `${part({ alg: 'none', typ: 'at+jwt' })}.${claims}.`,
      `${part({ alg: 'HS256', typ: 'at+jwt', kid })}.${claims}.${signature}`,
      `${head}.${claims}`,
      'eyJ',
      'a.b.c',
    ];
    for (const token of tokens) expectCode(await callAs(token), 401, 'agent_authentication_failed');
  });

  it('that holds a secret of ours by mistake is 401: it is never taken for a name, stored or logged', async () => {
    const url = `${sold.url}/paid`;
    const payment = await (await newPayer(instance)).pay(await askTerms(url));
    for (const secret of [agent.token, instance.info.api_key]) {
      expectCode(await callAs(secret), 401, 'agent_authentication_failed');
      expectCode(
        await sendPaid(url, payment, { headers: { 'x-agent-id': secret } }),
        401,
        'agent_authentication_failed',
      );
    }
  });

  it('whatever it holds, nothing is a 5xx, and no secret is in the log', () => {
    const log = instance.output();
    expect(log).toContain('"msg":"call"');
    expect(log).not.toMatch(/"status":5\d\d|"level":(?:50|60)/);
    for (const secret of [instance.info.api_key, instance.info.faucet_key, agent.token, agent.jwt, 'eyJ'])
      expect(log).not.toContain(secret);
  });
});

function expectCode(answer: Answer, status: number, code: string): void {
  expect(answer.headers['content-type']).toBe('application/problem+json');
  expect(answer.json()).toMatchObject({ status, code });
  expect(answer.status).toBe(status);
}

function part(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
