import type { PaymentRequirements } from '@x402/core/types';
import { ExactEvmScheme } from '@x402/evm';
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from '@x402/fetch';
import type { Address, Hex } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { fundAccount } from '../../src/embedded/index.ts';
import { openTestDatabase, type TestDatabase } from '../helpers/database.ts';
import { countRows, foreignTerms, newTenantKey, orderOf, settle, verify } from '../helpers/facilitator.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import {
  askTerms,
  authorizationOf,
  decode,
  encode,
  network,
  newPayer,
  openChain,
  type Payer,
  sendPaid,
} from '../helpers/payer.ts';
import { newPayerV1 } from '../helpers/payer-v1.ts';
import { send } from '../helpers/request.ts';
import { callApi, price, sell } from '../helpers/seller.ts';
import { startThirdPartySeller } from '../helpers/third-party-seller.ts';
import { startUpstream } from '../helpers/upstream.ts';

describe('the facilitator', { timeout: 30_000 }, () => {
  let database: TestDatabase;
  let instance: Instance;
  let payer: Payer;
  let payTo: Address;
  let terms: PaymentRequirements;

  beforeAll(async () => {
    database = await openTestDatabase();
    instance = await startInstance({ env: { DATABASE_URL: database.url } });
  }, 60_000);
  afterAll(async () => {
    await instance?.stop();
  }, 60_000);
  beforeEach(async () => {
    payer = await newPayer(instance, 10n * price);
    payTo = privateKeyToAccount(generatePrivateKey()).address;
    terms = foreignTerms(payTo);
  });

  const received = () => openChain(instance).balanceOf(payTo);
  /** What may not change where nothing is to change. */
  const rows = () => countRows(database.db);

  describe('of an API that uses the official server library', () => {
    it.each(['/paid', '/upfront'])('has %s paid once by the stock client, on the chain', async (path) => {
      const seller = await startThirdPartySeller(instance, { apiKey: instance.info.api_key, payTo });
      const account = privateKeyToAccount(generatePrivateKey());
      await fundAccount(instance.info.rpc_url, { address: account.address, tokenAtomic: price });
      const payingFetch = wrapFetchWithPaymentFromConfig(fetch, {
        schemes: [{ network, client: new ExactEvmScheme(account) }],
      });
      const response = await payingFetch(`${seller.url}${path}`);

      expect([response.status, await response.text(), seller.runs()]).toEqual([200, 'run 1', 1]);
      const settlement = decodePaymentResponseHeader(response.headers.get('PAYMENT-RESPONSE') ?? '');
      expect(settlement).toMatchObject({ success: true, network, payer: account.address });
      const { client, balanceOf } = openChain(instance);
      const receipt = await client.getTransactionReceipt({ hash: settlement.transaction as Hex });
      expect(receipt.status).toBe('success');
      expect([await received(), await balanceOf(account.address)]).toEqual([price, 0n]);
      await seller.close();
    });

    it.each(['/paid', '/upfront'])(
      'gives one answer of %s for one payment: to twenty copies at once, and to none that comes later',
      async (path) => {
        const seller = await startThirdPartySeller(instance, { apiKey: instance.info.api_key, payTo });
        const url = `${seller.url}${path}`;
        const payment = await payer.pay(decode((await send(url)).headers['payment-required']));
        const copy = () => send(url, { headers: { 'payment-signature': encode(payment) } });
        const answers = await Promise.all(Array.from({ length: 20 }, copy));
        answers.push(await copy(), await copy());

        const answered = answers.filter(({ status }) => status === 200);
        expect(answered.map(({ text }) => text)).toEqual([expect.stringMatching(/^run \d+$/)]);
        const others = answers.filter(({ status }) => status !== 200);
        expect(new Set(others.map(({ status }) => status))).toEqual(new Set([402]));
        if (path === '/upfront') expect(seller.runs()).toBe(1);
        expect(await received()).toBe(price);
        await seller.close();
      },
    );
  });

  it('says what it settles, in both versions, and who signs', async () => {
    const answer = await callApi(instance, '/facilitator/supported');
    expect(answer.status).toBe(200);
    expect(answer.json()).toEqual({
      kinds: [
        { x402Version: 2, scheme: 'exact', network },
        { x402Version: 1, scheme: 'exact', network: 'base-sepolia' },
      ],
      extensions: [],
      signers: { 'eip155:*': [expect.stringMatching(/^0x[0-9a-fA-F]{40}$/)] },
    });
    const [signer] = answer.json().signers['eip155:*'];
    const order = await orderOf(payer, terms);
    const { transaction } = (await settle(instance, order)).json();
    expect((await openChain(instance).client.getTransaction({ hash: transaction })).from).toBe(
      signer.toLowerCase(),
    );
  });

  it('verifies and settles a payment of version 1', async () => {
    const key = generatePrivateKey();
    await fundAccount(instance.info.rpc_url, {
      address: privateKeyToAccount(key).address,
      tokenAtomic: price,
    });
    const paymentRequirements = {
      scheme: 'exact',
      network: 'base-sepolia',
      maxAmountRequired: '10000',
      resource: 'https://api.example.com/paid',
      description: '',
      mimeType: '',
      payTo,
      maxTimeoutSeconds: 60,
      asset: terms.asset,
      extra: { name: 'USDC', version: '2' },
    };
    const paymentPayload = await newPayerV1(key).pay({
      x402Version: 1,
      error: 'pay',
      accepts: [paymentRequirements],
    });
    const body = { x402Version: 1, paymentPayload, paymentRequirements };

    const { address } = privateKeyToAccount(key);
    expect((await verify(instance, body)).json()).toEqual({ isValid: true, payer: address });
    const answer = await settle(instance, body);
    expect(answer.status).toBe(200);
    expect(answer.json()).toMatchObject({
      success: true,
      transaction: expect.stringMatching(/^0x[0-9a-f]{64}$/),
      network: 'base-sepolia',
      payer: address,
    });
    expect(await received()).toBe(price);
  });

  it('verifies without a credential, and writes nothing', async () => {
    const order = await orderOf(payer, terms);
    const before = await rows();
    expect((await verify(instance, order)).json()).toEqual({ isValid: true, payer: payer.address });
    const poor = await newPayer(instance, 0n);
    expect((await verify(instance, await orderOf(poor, terms))).json()).toMatchObject({
      isValid: false,
      invalidReason: 'insufficient_funds',
    });
    expect(await rows()).toEqual(before);
  });

  it('takes a payment that is good for ten seconds more: its seller has done the work by then', async () => {
    const order = await orderOf(payer, { ...terms, maxTimeoutSeconds: 10 });
    expect((await verify(instance, order)).json()).toMatchObject({ isValid: true });
    expect((await settle(instance, order)).json()).toMatchObject({ success: true });
  });

  it('counts what the payer has promised already: two payments of one cent each are not covered by one', async () => {
    const poor = await newPayer(instance, price);
    const upstream = await startUpstream(() => undefined);
    const sold = await sell(instance, upstream.url, 'slow-api');
    const url = `${sold.url}/paid`;
    const promised = sendPaid(url, await poor.pay(await askTerms(url))).catch(() => undefined);
    await expect.poll(() => upstream.requests.length).toBe(1);

    const order = await orderOf(poor, terms);
    const reason = { errorReason: 'insufficient_funds' };
    expect((await verify(instance, order)).json()).toMatchObject({ invalidReason: 'insufficient_funds' });
    expect((await settle(instance, order)).json()).toMatchObject({ success: false, ...reason });
    await upstream.close();
    await promised;
    expect((await settle(instance, order)).json()).toMatchObject({ success: true });
    expect(await received()).toBe(price);
  });

  const delivered = {
    success: false,
    errorReason: 'invalid_transaction_state',
    errorMessage: expect.stringContaining('A delivery on this payment was begun'),
    transaction: '',
  };

  it('succeeds once for one payment, at once and one after another, and charges it once', async () => {
    const order = await orderOf(payer, terms);
    const answers = await Promise.all(Array.from({ length: 12 }, () => settle(instance, order)));
    answers.push(await settle(instance, order));
    expect(answers.map(({ status }) => status)).toEqual(Array(13).fill(200));
    const told = answers.map((answer) => answer.json());
    expect(told.filter(({ success }) => success)).toEqual([
      expect.objectContaining({ extra: { payment_id: expect.any(String) } }),
    ]);
    expect(told.filter(({ success }) => !success)).toEqual(
      Array(12).fill(expect.objectContaining(delivered)),
    );
    expect(await received()).toBe(price);
    expect((await verify(instance, order)).json()).toMatchObject({
      isValid: false,
      invalidReason: 'invalid_transaction_state',
    });
  });

  it('tells a call that is retried with its Idempotency-Key the same again, and no other call', async () => {
    const order = await orderOf(payer, terms);
    const key = instance.info.api_key;
    const calls = ['first', 'first', 'second', 'first', 'second'];
    const answers = await Promise.all(calls.map((name) => settle(instance, order, key, name)));
    const winner = answers.findIndex((answer) => answer.json().success);
    const names = [...calls, 'first', 'second'];
    answers.push(await settle(instance, order, key, 'first'), await settle(instance, order, key, 'second'));
    for (const [index, answer] of answers.entries()) {
      if (names[index] === calls[winner]) expect(answer.text).toBe(answers[winner]?.text);
      else expect(answer.json()).toMatchObject(delivered);
    }
    expect((await settle(instance, order)).json(), 'without a key').toMatchObject(delivered);
    expect(await received()).toBe(price);

    const another = await orderOf(payer, terms);
    const reused = await settle(instance, another, key, calls[winner]);
    expect([reused.status, reused.json().code]).toEqual([409, 'idempotency_key_reused']);
    expect(await received(), 'refused before anything was charged').toBe(price);
  });

  it('takes a payment for the resource that it names, where it names one', async () => {
    const order = await orderOf(payer, terms);
    const elsewhere = {
      ...order,
      paymentPayload: { ...order.paymentPayload, resource: { url: 'https://api.example.com/other' } },
    };
    // Not settled yet, so that only the claim speaks against it.
    const { client } = openChain(instance);
    await client.request({ method: 'evm_setAutomine' as never, params: [false] as never });
    const first = settle(instance, order);
    try {
      await expect
        .poll(() =>
          database.db.query('SELECT FROM payment_claims WHERE nonce = $1', [
            authorizationOf(order.paymentPayload).nonce,
          ]),
        )
        .toHaveLength(1);
      expect((await settle(instance, elsewhere)).json().errorMessage).toBe(
        'This payment was used before, for something else',
      );
    } finally {
      await client.request({ method: 'evm_setAutomine' as never, params: [true] as never });
      await client.request({ method: 'evm_mine' as never });
    }
    expect((await first).json()).toMatchObject({ success: true });
  });

  it('takes a payment for the terms that it was first settled for, and for nobody else', async () => {
    const order = await orderOf(payer, terms);
    const used = {
      success: false,
      errorReason: 'invalid_transaction_state',
      errorMessage: 'This payment was used before, for something else',
      transaction: '',
    };
    expect((await settle(instance, order)).json()).toMatchObject({ success: true });
    const events = await callApi(instance, '/audit-logs?action=payment.settled&limit=1', {
      credential: instance.info.api_key,
    });
    expect(events.json().data[0].actor).toMatchObject({
      kind: 'api_key',
      id: expect.stringMatching(/^key_/),
    });
    const others = { ...order, paymentRequirements: { ...terms, maxTimeoutSeconds: 61 } };
    expect((await settle(instance, others)).json()).toMatchObject(used);
    const stranger = await newTenantKey(database.db);
    const refused = await settle(instance, order, stranger);
    expect([refused.status, refused.json()]).toEqual([200, expect.objectContaining(used)]);

    const { payer: from, nonce } = {
      payer: payer.address,
      nonce: authorizationOf(order.paymentPayload).nonce,
    };
    const path = `/facilitator/status?network=${network}&payer=${from.toLowerCase()}&nonce=${nonce}`;
    const mine = await callApi(instance, path, { credential: instance.info.api_key });
    expect(mine.json()).toMatchObject({
      state: 'settled',
      delivery: 'done',
      server_id: null,
      agent_id: null,
      amount: '10000',
    });
    const inV1 = path.replace(network, 'base-sepolia');
    expect((await callApi(instance, inV1, { credential: instance.info.api_key })).json()).toEqual(
      mine.json(),
    );
    expect((await callApi(instance, path, { credential: stranger })).status).toBe(404);
    const byId = `/v1/payments/${mine.json().id}`;
    expect((await callApi(instance, byId, { credential: stranger })).status).toBe(404);
    expect((await callApi(instance, path)).status, 'nobody').toBe(403);
  });

  it('and the gateway take no payment of each other', async () => {
    const upstream = await startUpstream((_request, response) => response.end('paid for'));
    const sold = await sell(instance, upstream.url, 'both');
    const url = `${sold.url}/paid`;
    const offer = await askTerms(url);
    const [accepted] = offer.accepts;
    const atGateway = await payer.pay(offer);
    expect((await sendPaid(url, atGateway)).status).toBe(200);
    const body = { x402Version: 2, paymentPayload: atGateway, paymentRequirements: accepted };
    expect((await settle(instance, body)).json()).toMatchObject({
      success: false,
      errorReason: 'invalid_transaction_state',
    });

    const here = await payer.pay(offer);
    const settled = await settle(instance, { ...body, paymentPayload: here });
    expect(settled.json()).toMatchObject({ success: true });
    const answer = await sendPaid(url, here);
    expect([answer.status, answer.json().code]).toEqual([409, 'payment_already_used']);
    expect(upstream.requests).toHaveLength(1);
    await upstream.close();
  });

  it('settles only with an API key that has the scope', async () => {
    const order = await orderOf(payer, terms);
    const before = await rows();
    expect((await callApi(instance, '/facilitator/settle', { body: order })).status).toBe(403);
    const weak = await newTenantKey(database.db, ['payments:read']);
    const between = await rows();
    expect(before).not.toEqual(between);
    expect((await settle(instance, order, weak)).status).toBe(403);
    expect(await rows()).toEqual(between);
  });
});
