import type { PaymentPayload } from '@x402/core/types';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { registerAgent } from '../helpers/agent.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askTerms, decode, newPayer, openChain, type Payer, sendPaid } from '../helpers/payer.ts';
import { price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';
import { withheld } from '../helpers/withheld.ts';

describe('one payment buys one call', { timeout: 20_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let payer: Payer;
  let url: string;

  beforeAll(async () => {
    instance = await startInstance();
    upstream = await startUpstream((request, response) => {
      setTimeout(() => response.end(`run ${upstream.requests.length} of ${request.url}`), 100);
    });
    sold = await sell(instance, upstream.url, 'once');
    url = `${sold.url}/paid/answer?question=1`;
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);
  beforeEach(async () => {
    payer = await newPayer(instance, 100_000n);
    upstream.requests.length = 0;
  });

  const spent = async () => 100_000n - (await openChain(instance).balanceOf(payer.address));
  const buy = async () => {
    const payment = await payer.pay(await askTerms(url));
    const answer = await sendPaid(url, payment);
    expect(answer.status).toBe(200);
    return { payment, answer };
  };

  it('sent 20 times at once, it runs the upstream once, gives 20 equal answers and is charged once', async () => {
    const payment = await payer.pay(await askTerms(url));
    const answers = await Promise.all(Array.from({ length: 20 }, () => sendPaid(url, payment)));

    expect(upstream.requests.length).toBe(1);
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    expect(new Set(answers.map(({ text }) => text))).toEqual(
      new Set(['run 1 of /v1/paid/answer?question=1']),
    );
    expect(new Set(answers.map(({ headers }) => headers['payment-response'])).size).toBe(1);
    expect(await spent()).toBe(price);
    expect(await openChain(instance).balanceOf(sold.payTo)).toBe(price);
  });

  it('sent again later, it gives the stored answer: no upstream run, no charge', async () => {
    const { payment, answer } = await buy();
    const again = await sendPaid(url, payment);
    expect(again).toMatchObject({ status: 200, text: answer.text });
    expect(decode(again.headers['payment-response'])).toEqual(decode(answer.headers['payment-response']));
    expect(upstream.requests.length).toBe(1);
    expect(await spent()).toBe(price);
  });

  it('shown from another address without the secret of the terms, it gives 409, and nothing of the answer', async () => {
    const { payment } = await buy();
    const theft = await sendPaid(url, withoutSecret(payment), { from: '127.0.0.2' });
    expect(theft).toMatchObject(withheld);
    expect(theft.headers).not.toHaveProperty('payment-response');
    const wrongSecret = structuredClone(payment);
    wrongSecret.extensions = (await askTerms(url)).extensions ?? {};
    expect(await sendPaid(url, wrongSecret, { from: '127.0.0.2' })).toMatchObject(withheld);
    expect(upstream.requests.length).toBe(1);
  });

  it('shown with the secret from another address, under another agent id, it gives the answer', async () => {
    const { payment, answer } = await buy();
    const moved = await sendPaid(url, payment, { from: '127.0.0.2', headers: { 'x-agent-id': 'moved' } });
    expect(moved).toMatchObject({ status: 200, text: answer.text });
    expect(await spent()).toBe(price);
  });

  it('shown without the secret within 5 minutes, it needs both the same agent id and the same address', async () => {
    const { payment, answer } = await buy();
    const bare = withoutSecret(payment);
    expect(await sendPaid(url, bare)).toMatchObject({ status: 200, text: answer.text });
    expect(await sendPaid(url, bare, { headers: { 'x-agent-id': 'another' } })).toMatchObject(withheld);
    expect(await sendPaid(url, bare, { from: '127.0.0.2' })).toMatchObject(withheld);
  });

  it('of a verified agent, it gives its answer to that agent anywhere, and to nobody who only says its id', async () => {
    const agent = await registerAgent(instance);
    const proof = { 'x-agent-id': agent.jwt };
    const bare = withoutSecret(await payer.pay(await askTerms(url)));
    const answer = await sendPaid(url, bare, { headers: proof });
    expect(answer.status).toBe(200);
    expect(await sendPaid(url, bare, { headers: proof, from: '127.0.0.2' })).toMatchObject({
      status: 200,
      text: answer.text,
    });
    const said = await sendPaid(url, bare, { headers: { 'x-agent-id': agent.agent_id } });
    expect(said).toMatchObject(withheld);
    const other = await registerAgent(instance);
    expect(await sendPaid(url, bare, { headers: { 'x-agent-id': other.jwt } })).toMatchObject(withheld);
  });

  it.each([
    ['path', 'GET', '/paid/other?question=1', undefined],
    ['spelling of the same path', 'GET', '/paid/answe%72?question=1', undefined],
    ['query', 'GET', '/paid/answer?question=2', undefined],
    ['method', 'POST', '/paid/answer?question=1', undefined],
    ['body', 'GET', '/paid/answer?question=1', 'a body'],
  ])(
    'for another %s, it is refused with payment_already_used, and the upstream hears nothing',
    async (_, method, path, body) => {
      const { payment } = await buy();
      const answer = await sendPaid(`${sold.url}${path}`, payment, {
        method,
        ...(body === undefined ? {} : { body }),
      });
      expect(answer.status).toBe(409);
      expect(answer.json()).toMatchObject({ code: 'payment_already_used' });
      expect(upstream.requests.length).toBe(1);
      expect(await spent()).toBe(price);
    },
  );

  it('for another request at the same moment, it buys only one of them', async () => {
    const payment = await payer.pay(await askTerms(url));
    const paths = Array.from({ length: 10 }, (_, index) => `${sold.url}/paid/answer?question=${index}`);
    const answers = await Promise.all(paths.map((path) => sendPaid(path, payment)));
    const codes = answers.map(({ status }) => status).toSorted((a, b) => a - b);
    expect(codes).toEqual([200, ...Array.from({ length: 9 }, () => 409)]);
    expect(upstream.requests.length).toBe(1);
    expect(await spent()).toBe(price);
  });

  it.each([
    ['another path', '/paid/other', {}],
    ['the path that it is under', '/paid', {}],
    ['another spelling of it', '/paid/answe%72', {}],
    ['another resource, by an address that is none', '/paid/answer', { url: '/paid/answer' }],
    ['another seller', '/paid/answer', { url: 'http://localhost:8402/api/somebody/paid/answer' }],
  ])('sent to %s than it names buys nothing, and can still buy what it names', async (_, path, named) => {
    const payment = await payer.pay(await askTerms(url));
    const changed = { ...payment, resource: { ...payment.resource, ...named } };
    const refused = await sendPaid(`${sold.url}${path}?question=1`, changed);
    expect([refused.status, refused.json().code, refused.json().error]).toEqual([
      402,
      'payment_invalid',
      'resource_mismatch',
    ]);
    expect([upstream.requests.length, await spent()]).toEqual([0, 0n]);
    expect((await sendPaid(url, payment)).status).toBe(200);
    expect(await spent()).toBe(price);
  });

  it('that names its resource by another host, with another query, or not at all buys what it is sent for', async () => {
    const elsewhere = new URL(url);
    elsewhere.host = 'gateway.example';
    for (const resource of [{ url: elsewhere.href }, { url: `${url}&more=2` }, undefined, { url: 7 }]) {
      const payment = await payer.pay(await askTerms(url));
      expect((await sendPaid(url, { ...payment, resource })).status, JSON.stringify(resource)).toBe(200);
    }
  });

  it('that was for one seller buys nothing of another', async () => {
    const other = await sell(instance, upstream.url, 'other');
    const { payment } = await buy();
    const answer = await sendPaid(`${other.url}/paid/answer?question=1`, payment);
    expect(answer.json()).toMatchObject({ code: 'payment_already_used' });
    expect(upstream.requests.length).toBe(1);
    expect(await openChain(instance).balanceOf(other.payTo)).toBe(0n);
  });
});

function withoutSecret({ x402Version, accepted, payload }: PaymentPayload): PaymentPayload {
  return { x402Version, accepted, payload };
}
