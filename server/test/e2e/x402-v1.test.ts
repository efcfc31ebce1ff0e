import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { getMandate, registerAgent } from '../helpers/agent.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import {
  askTerms,
  authorizationOf,
  decode,
  encode,
  newPayer,
  openChain,
  sendPaid,
  settleOnChain,
} from '../helpers/payer.ts';
import { newFundedPayerV1, newPayerV1, parseRequiredV1, type PaymentV1 } from '../helpers/payer-v1.ts';
import { type Answer, send } from '../helpers/request.ts';
import { callApi, price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';
import { withheld } from '../helpers/withheld.ts';

const someone = '0x000000000000000000000000000000000000dEaD';

describe('x402 version 1', { timeout: 30_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let url: string;

  beforeAll(async () => {
    instance = await startInstance();
    upstream = await startUpstream((_, response) => response.end(`answer ${upstream.requests.length}`));
    sold = await sell(instance, upstream.url, 'version-one');
    url = `${sold.url}/paid`;
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  /** The same authorisation in the other envelope, with all that a v2 client echoes. */
  const asV2 = async ({ payload }: PaymentV1) => {
    const terms = await askTerms(url);
    return {
      x402Version: 2,
      resource: terms.resource,
      accepted: terms.accepts[0],
      payload,
      extensions: terms.extensions,
    };
  };
  /** A payer of v1 with money of its own, and what it owes and has bought so far. */
  const fundedPayer = async () => {
    const chain = openChain(instance);
    const faucet = newPayerV1(instance.info.faucet_key);
    const before = await chain.balanceOf(faucet.address);
    const runs = upstream.requests.length;
    return {
      ...faucet,
      expectCharged: async (times: bigint) => {
        expect(before - (await chain.balanceOf(faucet.address))).toBe(price * times);
        expect(upstream.requests.length - runs).toBe(Number(times));
      },
    };
  };

  it('its strict client reads the body of the 402, entry by entry, with our problem beside it', async () => {
    for (const resource of [url, instance.info.demo_url]) {
      const answer = await ask(resource);
      const body = answer.json();
      expect(parseRequiredV1(body)).toMatchObject({
        error: 'X-PAYMENT header is required',
        accepts: [
          {
            network: 'base-sepolia',
            maxAmountRequired: String(price),
            resource,
            outputSchema: { input: { type: 'http', method: 'GET' } },
            extra: { name: 'USDC', version: '2' },
          },
        ],
      });
      expect(body).toMatchObject({ code: 'payment_required', status: 402, request_id: expect.any(String) });
      expect(answer.headers['content-type']).toBe('application/json');
      expect(decode(answer.headers['payment-required'])).toMatchObject({
        x402Version: 2,
        accepts: [{ amount: String(price), payTo: body.accepts[0].payTo }],
      });
    }
  });

  it('pays demo_url once, and is told so in X-PAYMENT-RESPONSE alone, in its own words', async () => {
    const chain = openChain(instance);
    const { demo_url, faucet_key } = instance.info;
    const payer = newPayerV1(faucet_key);
    const before = await chain.balanceOf(payer.address);
    const payment = await payer.pay((await ask(demo_url)).json());
    const answer = await payV1(`${demo_url}?place=quito&date=2026-06-21`, payment);
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json()).toMatchObject({ place: 'quito' });
    expect(answer.headers).not.toHaveProperty('payment-response');
    const settlement = decode(answer.headers['x-payment-response']);
    expect(settlement).toEqual({
      success: true,
      transaction: expect.stringMatching(/^0x[0-9a-f]{64}$/),
      network: 'base-sepolia',
      payer: privateKeyToAccount(faucet_key).address,
    });
    const receipt = await chain.client.getTransactionReceipt({ hash: settlement.transaction });
    expect(receipt.status).toBe('success');
    expect(before - (await chain.balanceOf(payer.address))).toBe(price);
  });

  it('sent again it gives the stored answer to whoever paid, and to nobody else', async () => {
    const payer = await fundedPayer();
    const payment = await payer.pay((await ask(url)).json());
    const first = await payV1(url, payment);
    const again = await payV1(url, payment);
    expect(again).toMatchObject({ status: 200, text: first.text });
    expect(again.headers['x-payment-response']).toBe(first.headers['x-payment-response']);
    const stranger = await payV1(url, payment, { 'x-agent-id': 'somebody-else' });
    expect(stranger).toMatchObject(withheld);
    await payer.expectCharged(1n);
  });

  it('one authorisation sent as v1, then as v2, and as both at once, is one charge', async () => {
    const payer = await fundedPayer();
    const payment = await payer.pay((await ask(url)).json());
    const first = await payV1(url, payment);
    const second = await sendPaid(url, await asV2(payment));
    expect([first.status, second.status]).toEqual([200, 200]);
    expect(second.text).toBe(first.text);
    expect(decode(second.headers['payment-response'])).toEqual({
      ...decode(first.headers['x-payment-response']),
      network: 'eip155:84532',
    });
    expect(second.headers).not.toHaveProperty('x-payment-response');
    await payer.expectCharged(1n);

    const other = await payer.pay((await ask(url)).json());
    const twin = await asV2(other);
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, turn) => (turn % 2 === 0 ? payV1(url, other) : sendPaid(url, twin))),
    );
    expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
    await payer.expectCharged(2n);
  });

  it('one authorisation sent as v2 and then as v1 is one charge', async () => {
    const payer = await newPayer(instance);
    const payment = await payer.pay(await askTerms(url));
    const first = await sendPaid(url, payment);
    const runs = upstream.requests.length;
    const second = await payV1(url, {
      x402Version: 1,
      scheme: 'exact',
      network: 'base-sepolia',
      payload: payment.payload as PaymentV1['payload'],
    });
    expect(second).toMatchObject({ status: 200, text: first.text });
    expect(upstream.requests.length).toBe(runs);
    expect(await openChain(instance).balanceOf(payer.address)).toBe(1_000_000n - price);
  });

  it.each<[string, (body: unknown) => Promise<PaymentV1>, string]>([
    [
      'more than the price',
      (body) => newPayerV1(instance.info.faucet_key).pay(body, { value: '10001' }),
      'invalid_exact_evm_payload_authorization_value_mismatch',
    ],
    [
      'another network',
      async (body) => ({ ...(await newPayerV1(instance.info.faucet_key).pay(body)), network: 'base' }),
      'invalid_network',
    ],
    [
      'a name that is a property of objects',
      async (body) => ({ ...(await newPayerV1(instance.info.faucet_key).pay(body)), network: 'constructor' }),
      'invalid_network',
    ],
    ['an empty purse', (body) => newPayerV1().pay(body), 'insufficient_funds'],
  ])('with %s it is 402, with terms of both versions and the reason in both', async (_, pay, reason) => {
    const runs = upstream.requests.length;
    const answer = await payV1(url, await pay((await ask(url)).json()));
    expect(answer.status).toBe(402);
    expect(parseRequiredV1(answer.json()).error).toBe(reason);
    expect(decode(answer.headers['payment-required'])).toMatchObject({ error: reason });
    expect(upstream.requests.length).toBe(runs);
  });

  it('a payment of v2 in its header, and one of v1 in that of v2, are 400', async () => {
    const payment = await newPayerV1(instance.info.faucet_key).pay((await ask(url)).json());
    expectUnread(await payV1(url, encode(await asV2(payment))), 'X-PAYMENT is no payment of x402 version 1');
    expectUnread(await sendPaid(url, payment), 'PAYMENT-SIGNATURE is no payment of x402 version 2');
  });

  it('a settlement that fails is told in its own header and words', async () => {
    const payer = await newFundedPayerV1(instance, price);
    const body = (await ask(url)).json();
    const payment = await payer.pay(body);
    const elsewhere = await payer.pay(body, { to: someone });
    upstream.behave((_, response) => {
      // The payer spends its money while the API works.
      void settleOnChain(instance, elsewhere).finally(() => response.end('worked for nothing'));
    });
    const answer = await payV1(url, payment);
    expect(answer.status).toBe(402);
    expect(answer.json()).toMatchObject({ code: 'settlement_failed', error: 'insufficient_funds' });
    expect(answer.text).not.toContain('worked for nothing');
    expect(parseRequiredV1(answer.json()).accepts).toEqual(body.accepts);
    expect(answer.headers).not.toHaveProperty('payment-response');
    expect(decode(answer.headers['x-payment-response'])).toEqual({
      success: false,
      errorReason: 'insufficient_funds',
      transaction: '',
      network: 'base-sepolia',
      payer: payer.address,
    });
    upstream.behave((_, response) => response.end('works again'));
  });

  it("a wallet's mandate pays its terms: the same decision and hold, in X-PAYMENT", async () => {
    const agent = await registerAgent(instance);
    const mandateId = await getMandate(instance, agent, { limitAmount: String(price) });
    const required = (await ask(url)).json();
    const sign = (terms: unknown) =>
      callApi(instance, '/v1/payments/x402', {
        body: { mandate_id: mandateId, payment_required: terms },
        credential: agent.jwt,
      });
    const withOffer = (change: object) => ({ ...required, accepts: [{ ...required.accepts[0], ...change }] });

    for (const network of ['base', 'eip155:84532'])
      expect((await sign(withOffer({ network }))).json().code).toBe('no_supported_payment_option');
    const elsewhere = await sign(withOffer({ resource: 'https://api.example.com/paid' }));
    expect(elsewhere.json().decision.reason_codes).toContain('payee_unverified');

    const signed = await sign(required);
    expect(signed.status, signed.text).toBe(201);
    const { payment_header_name, payment_header } = signed.json();
    expect(payment_header_name).toBe('X-PAYMENT');
    expect(decode(payment_header)).toMatchObject({
      x402Version: 1,
      scheme: 'exact',
      network: 'base-sepolia',
    });
    expect(authorizationOf(decode(payment_header))).toMatchObject({ to: sold.payTo, value: String(price) });
    expect((await sign(required)).json().decision.reason_codes).toEqual(['lifetime_limit_exceeded']);
    expect((await payV1(url, payment_header as string)).status).toBe(200);
  });
});

async function ask(resource: string): Promise<Answer> {
  const answer = await send(resource, { headers: { 'x-agent-id': 'a-buyer' } });
  expect(answer.status).toBe(402);
  return answer;
}

function payV1(
  resource: string,
  payment: PaymentV1 | string,
  more: Record<string, string> = {},
): Promise<Answer> {
  const header = typeof payment === 'string' ? payment : encode(payment);
  return send(resource, { headers: { 'x-agent-id': 'a-buyer', 'x-payment': header, ...more } });
}

function expectUnread(answer: Answer, detail: string): void {
  expect(answer.status).toBe(400);
  expect(answer.json()).toMatchObject({ code: 'invalid_payment', detail: expect.stringContaining(detail) });
}
