import { setTimeout as sleep } from 'node:timers/promises';
import type { PaymentPayload, PaymentRequired } from '@x402/core/types';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Agent, askForMandate, getMandate, type Intent, registerAgent } from '../helpers/agent.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askTerms, authorizationOf, decode, encode, openChain, sendPaid } from '../helpers/payer.ts';
import { type Answer } from '../helpers/request.ts';
import { callApi, price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

describe("an agent's budget", { timeout: 30_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let agent: Agent;
  let terms: PaymentRequired;
  let url: string;

  beforeAll(async () => {
    instance = await startInstance();
    upstream = await startUpstream((_, response) => response.end('bought'));
    sold = await sell(instance, upstream.url, 'budget');
    agent = await registerAgent(instance);
    url = `${sold.url}/paid`;
    terms = await askTerms(url);
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  const sign = (
    mandateId: string,
    required: PaymentRequired | string = terms,
    headers: Record<string, string> = {},
  ) =>
    callApi(instance, '/v1/payments/x402', {
      body: { mandate_id: mandateId, payment_required: required },
      credential: agent.jwt,
      headers,
    });
  const mandate = (intent: Partial<Intent> = {}) => getMandate(instance, agent, intent);
  const budgetOf = async (mandateId: string) => {
    const answer = await callApi(instance, `/v1/mandates/${mandateId}`, { credential: agent.jwt });
    const { spentAmount, pendingSpentAmount, remainingAmount, status } = answer.json();
    return { spent: spentAmount, held: pendingSpentAmount, left: remainingAmount, status };
  };
  const changedTerms = (change: Partial<PaymentRequired['accepts'][number]>, resource = terms.resource) => ({
    ...terms,
    resource,
    accepts: terms.accepts.map((offer) => ({ ...offer, ...change })),
  });

  it('with room for 10 of 100 payments asked for at once signs exactly 10, and denies 90 with the reason', async () => {
    const mandateId = await mandate({ limitAmount: String(price * 10n) });
    const answers = await Promise.all(Array.from({ length: 100 }, () => sign(mandateId)));
    const signed = answers.filter(({ status }) => status === 201);
    expect(signed.length).toBe(10);
    for (const answer of answers.filter(({ status }) => status !== 201))
      expectDenied(answer, 'lifetime_limit_exceeded');
    const nonces = signed.map((answer) => authorizationOf(decode(answer.json().payment_header)).nonce);
    expect(new Set(nonces).size).toBe(10);
    expect(await budgetOf(mandateId)).toMatchObject({ spent: '0', held: String(price * 10n), left: '0' });
  });

  it('signs what its wallet owes and no more: payer, payee, amount, and at most the time of the terms', async () => {
    const answer = await sign(await mandate());
    expect(answer.status).toBe(201);
    const body = answer.json();
    expect(body).toMatchObject({
      id: expect.stringMatching(/^out_/),
      decision_id: expect.stringMatching(/^dec_/),
      payment_header_name: 'PAYMENT-SIGNATURE',
    });
    const payment: PaymentPayload = decode(body.payment_header);
    expect(payment).toMatchObject({ x402Version: 2, resource: terms.resource, extensions: terms.extensions });
    const { from, to, value, validBefore } = authorizationOf(payment);
    expect({ from, to, value }).toEqual({
      from: instance.info.wallet_address,
      to: sold.payTo,
      value: String(price),
    });
    expect(Number(validBefore)).toBe(Math.floor(Date.parse(body.expires_at) / 1000));
    expect(Number(validBefore)).toBeLessThanOrEqual(Math.floor(Date.now() / 1000) + 120);
  });

  it('that nobody has signed pays nothing: 403 mandate_not_signed, saying where a person signs', async () => {
    const { mandateId, authorizationUrl } = await askForMandate(instance, agent);
    const answer = await sign(mandateId);
    expect(answer.status).toBe(403);
    expect(answer.json()).toMatchObject({
      code: 'mandate_not_signed',
      authorizationUrl,
      next: { authorizationUrl },
    });
  });

  it("of another agent isn't there: 404, signed or not", async () => {
    const other = await registerAgent(instance);
    const { mandateId } = await askForMandate(instance, other);
    expect((await sign(mandateId)).status).toBe(404);
    expect((await sign(await getMandate(instance, other))).status).toBe(404);
    expect((await sign('dlg_00000000000000000000000000')).status).toBe(404);
  });

  it.each<[string, () => PaymentRequired]>([
    ['our API with another payee', () => changedTerms({ payTo: instance.info.wallet_address })],
    ['a payee that is no address', () => changedTerms({ payTo: 'seller' })],
    [
      'an unknown API of our gateway',
      () => changedTerms({}, { url: `${instance.info.gateway_url}/api/nobody/paid` }),
    ],
    ['a foreign host', () => changedTerms({}, { url: 'https://api.example.com/api/budget/paid' })],
    [
      'a foreign host that looks like ours',
      () => changedTerms({}, { url: `${instance.info.gateway_url}@evil.example/api/budget/paid` }),
    ],
    ['the control plane', () => changedTerms({}, { url: `${instance.info.api_url}/api/budget/paid` })],
  ])('does not pay %s: payee_unverified, and holds nothing', async (_, required) => {
    const mandateId = await mandate();
    expectDenied(await sign(mandateId, required()), 'payee_unverified');
    expect(await budgetOf(mandateId)).toMatchObject({ held: '0', left: '1000000' });
  });

  it('denies what exceeds its limit of one payment, and says both limits where both are exceeded', async () => {
    const mandateId = await mandate({ limitAmount: '15000', maxAmountPerTx: '9999' });
    expectDenied(await sign(mandateId), 'per_transaction_limit_exceeded');
    const both = await sign(mandateId, changedTerms({ amount: '15001' }));
    expect(both.json().decision.reason_codes.toSorted()).toEqual([
      'lifetime_limit_exceeded',
      'per_transaction_limit_exceeded',
    ]);
  });

  it('denies a host that is not on its list, and allows one that is', async () => {
    const { host, hostname } = new URL(url);
    expectDenied(
      await sign(await mandate({ hostAllowlist: ['api.example.com', `*.${hostname}`] })),
      'host_not_allowed',
    );
    expect((await sign(await mandate({ hostAllowlist: [host] }))).status).toBe(201);
    expect((await sign(await mandate({ hostAllowlist: ['x.example', hostname.toUpperCase()] }))).status).toBe(
      201,
    );
  });

  it('ends with its time', async () => {
    const mandateId = await mandate({ validForSeconds: 1 });
    await sleep(1_100);
    expectDenied(await sign(mandateId), 'delegation_expired');
    expect(await budgetOf(mandateId)).toMatchObject({ status: 'expired' });
  });

  it.each<[string, () => PaymentRequired | string, string]>([
    ['another network', () => changedTerms({ network: 'eip155:8453' }), 'no_supported_payment_option'],
    [
      'another token',
      () => changedTerms({ asset: instance.info.wallet_address }),
      'no_supported_payment_option',
    ],
    ['another scheme', () => changedTerms({ scheme: 'upto' }), 'no_supported_payment_option'],
    ['no offer', () => ({ ...terms, accepts: [] }), 'no_supported_payment_option'],
    ['no resource', () => changedTerms({}, { url: 'file:///etc/passwd' }), 'invalid_request'],
    ['nothing', () => changedTerms({ amount: '0' }), 'invalid_request'],
    ['more than a token has', () => changedTerms({ amount: '9'.repeat(78) }), 'invalid_request'],
    ['a header that is none', () => 'not base64', 'invalid_payment'],
  ])('answers terms with %s by 400', async (_, required, code) => {
    const answer = await sign(await mandate(), required());
    expect(answer.status, answer.text).toBe(400);
    expect(answer.json()).toMatchObject({ code });
  });

  it('is free again when a payment that nobody used has expired', async () => {
    const mandateId = await mandate({ limitAmount: String(price) });
    expect((await sign(mandateId, changedTerms({ maxTimeoutSeconds: 2 }))).status).toBe(201);
    expect(await budgetOf(mandateId)).toMatchObject({ held: String(price), left: '0', status: 'exhausted' });
    expectDenied(await sign(mandateId), 'lifetime_limit_exceeded');
    await until(async () => (await budgetOf(mandateId)).held === '0');
    expect(await budgetOf(mandateId)).toMatchObject({ spent: '0', left: String(price), status: 'signed' });
    expect((await sign(mandateId)).status).toBe(201);
  });

  it('is spent when the payment is settled: captured once, by exactly the price', async () => {
    const chain = openChain(instance);
    const before = await chain.balanceOf(sold.payTo);
    const mandateId = await mandate({ limitAmount: '25000' });
    const { payment_header } = (await sign(mandateId, encode(terms))).json();
    expect(await budgetOf(mandateId)).toMatchObject({ spent: '0', held: '10000', left: '15000' });
    for (let sends = 0; sends < 3; sends += 1)
      expect(await sendPaid(url, payment_header)).toMatchObject({ status: 200, text: 'bought' });
    await until(async () => (await budgetOf(mandateId)).held === '0');
    expect(await budgetOf(mandateId)).toMatchObject({ spent: '10000', left: '15000', status: 'signed' });
    expect((await chain.balanceOf(sold.payTo)) - before).toBe(price);
  });

  it('is held once for one Idempotency-Key: the same payment again, at once or later, and 409 for another body', async () => {
    const mandateId = await mandate({ limitAmount: String(price * 5n) });
    const key = { 'idempotency-key': `key-${mandateId}` };
    const answers = await Promise.all(Array.from({ length: 5 }, () => sign(mandateId, terms, key)));
    answers.push(await sign(mandateId, terms, key));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 201));
    expect(new Set(answers.map((answer) => answer.json().payment_header)).size).toBe(1);
    expect(await budgetOf(mandateId)).toMatchObject({ held: String(price) });
    const other = await sign(mandateId, changedTerms({ maxTimeoutSeconds: 60 }), key);
    expect(other.status).toBe(409);
    expect(other.json()).toMatchObject({ code: 'idempotency_key_reused' });
  });

  it('denies the same way again for one Idempotency-Key', async () => {
    const mandateId = await mandate({ limitAmount: '1' });
    const key = { 'idempotency-key': `key-${mandateId}` };
    const first = await sign(mandateId, terms, key);
    expectDenied(first, 'lifetime_limit_exceeded', 'per_transaction_limit_exceeded');
    expect((await sign(mandateId, terms, key)).json().decision).toEqual(first.json().decision);
  });
});

async function until(reached: () => Promise<boolean>): Promise<void> {
  while (!(await reached())) await sleep(50);
}

function expectDenied(answer: Answer, ...reasons: string[]): void {
  expect(answer.status, answer.text).toBe(403);
  expect(answer.json()).toMatchObject({
    code: 'payment_denied',
    decision: {
      decision_id: expect.stringMatching(/^dec_/),
      allowed: false,
      action: 'DENY',
      reason_codes: reasons,
    },
  });
  expect(answer.text).not.toContain('signature');
}
