import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, registerAgent } from '../helpers/agent.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askToken, createClient } from '../helpers/oauth.ts';
import { askTerms, decode, newPayer, type Payer, sendPaid } from '../helpers/payer.ts';
import { send } from '../helpers/request.ts';
import { sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

describe('what passes between a client and its upstream', { timeout: 20_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let payer: Payer;
  let agent: Agent;

  beforeAll(async () => {
    instance = await startInstance();
    upstream = await startUpstream((_, response) => {
      response.writeHead(201, {
        'set-cookie': 'session=upstream',
        'payment-response': 'forged',
        'x-payment-response': 'forged',
        'payment-required': 'forged',
        'strict-transport-security': 'max-age=1',
        'cache-control': 'public',
        'content-type': 'text/plain',
        'x-own': ['one', 'two'],
      });
      response.end('made');
    });
    sold = await sell(instance, upstream.url, 'passing');
    payer = await newPayer(instance);
    agent = await registerAgent(instance);
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  const credentials = () => ({
    'x-api-key': instance.info.api_key,
    authorization: `Bearer ${agent.jwt}`,
    'x-another-name': agent.jwt,
    'x-agent-secret': agent.token,
    'x-agent-id': agent.jwt,
    cookie: 'session=console',
    'x-payment-response': 'mine',
    'x-forwarded-for': '10.1.2.3',
    'if-none-match': '"etag"',
    range: 'bytes=0-1',
  });
  const expectClean = (request: Upstream['requests'][number] | undefined) => {
    const text = JSON.stringify(request);
    for (const secret of [
      instance.info.api_key,
      agent.jwt,
      agent.token,
      agent.agent_id,
      'session=console',
      '10.1.2.3',
    ])
      expect(text).not.toContain(secret);
    expect(
      Object.keys(request?.headers ?? {}).filter((name) => /payment|agent-id|cookie/.test(name)),
    ).toEqual([]);
  };

  it('the payment, X-Agent-ID, our API keys and our tokens never reach a priced upstream; the rest does, byte for byte', async () => {
    const url = `${sold.url}/paid/deep%20er?b=2&a=%2F&a=1`;
    const payment = await payer.pay(await askTerms(url));
    const own = { 'content-type': 'text/x-own', 'x-own': 'kept', accept: 'text/plain' };
    const sending = { method: 'PUT', body: 'the body', headers: { ...credentials(), ...own } };
    const answer = await sendPaid(url, payment, sending);

    expect(answer.status).toBe(201);
    const request = upstream.requests.at(-1);
    expectClean(request);
    expect(request).toMatchObject({
      method: 'PUT',
      url: '/v1/paid/deep%20er?b=2&a=%2F&a=1',
      body: 'the body',
      headers: { ...own, host: new URL(upstream.url).host },
    });
    expect(request?.headers).not.toHaveProperty('if-none-match');
    expect(request?.headers).not.toHaveProperty('range');
  });

  it('a free upstream hears no credential of ours either', async () => {
    const answer = await send(`${sold.url}/free`, {
      headers: { ...credentials(), 'payment-signature': 'e30=' },
    });
    expect(answer).toMatchObject({ status: 201, text: 'made' });
    expectClean(upstream.requests.at(-1));
    expect(upstream.requests.at(-1)?.headers).toMatchObject({ range: 'bytes=0-1' });
  });

  it('nor do the credentials of an agent, in whichever header and scheme; as an agent id they are refused', async () => {
    const client = await createClient(instance);
    const { access_token, refresh_token } = (await askToken(instance, client)).json();
    const basic = Buffer.from(`${client.clientId}:${client.secret}`).toString('base64');
    for (const authorization of [
      `DPoP ${access_token}`,
      `Basic ${basic}`,
      `Bearer ${refresh_token}`,
      client.secret,
    ]) {
      const headers = { 'x-agent-id': 'buyer', authorization, 'x-token': refresh_token };
      expect((await send(`${sold.url}/free`, { headers })).status).toBe(201);
      const seen = upstream.requests.at(-1)?.headers ?? {};
      expect(seen).not.toHaveProperty('authorization');
      expect(seen).not.toHaveProperty('x-token');
    }
    for (const secret of [
      refresh_token,
      client.secret,
      `cs_${'a-_Z0'.repeat(8)}abc`,
      instance.info.api_key,
    ]) {
      const runs = upstream.requests.length;
      const answer = await send(`${sold.url}/free`, { headers: { 'x-agent-id': secret } });
      expect(answer.status, answer.text).toBe(401);
      expect(answer.text).not.toContain(secret);
      expect(upstream.requests.length).toBe(runs);
    }
  });

  it("a credential of the seller's own passes: it isn't ours", async () => {
    const authorization = 'Bearer eyJhbGciOiJub25lIn0.eyJpc3MiOiJodHRwczovL290aGVyLmV4YW1wbGUifQ.c2ln';
    await send(`${sold.url}/free`, { headers: { 'x-agent-id': 'buyer', authorization } });
    expect(upstream.requests.at(-1)?.headers).toMatchObject({ authorization });
  });

  it("Set-Cookie, payment headers and caching rules of a priced upstream don't reach the client; the rest does", async () => {
    const url = `${sold.url}/paid`;
    const answer = await sendPaid(url, await payer.pay(await askTerms(url)));
    expect(answer).toMatchObject({ status: 201, text: 'made' });
    expect(answer.headers).toMatchObject({
      'content-type': 'text/plain',
      'x-own': 'one, two',
      'cache-control': 'private, no-store',
    });
    for (const name of ['set-cookie', 'payment-required', 'x-payment-response', 'strict-transport-security'])
      expect(answer.headers).not.toHaveProperty(name);
    expect(decode(answer.headers['payment-response'])).toMatchObject({ success: true });
  });

  it("Set-Cookie and payment headers of a free upstream don't either", async () => {
    const answer = await send(`${sold.url}/free`, { headers: { 'x-agent-id': 'buyer' } });
    for (const name of ['set-cookie', 'payment-required', 'payment-response', 'x-payment-response'])
      expect(answer.headers).not.toHaveProperty(name);
  });

  it.each(['/paid/../free', '/paid/%2e%2e/free', '/paid//x', '/paid/%2Fx', '/paid/%zz', '/paid\\x'])(
    'a path with two meanings, %s, is refused with 400 before anything is asked for it',
    async (path) => {
      const runs = upstream.requests.length;
      const answer = await send(`${sold.url}${path}`, { headers: { 'x-agent-id': 'buyer' } });
      expect(answer.status).toBe(400);
      expect(answer.json()).toMatchObject({ code: 'invalid_path' });
      expect(upstream.requests.length).toBe(runs);
    },
  );
});
