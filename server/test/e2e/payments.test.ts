import type { ServerResponse } from 'node:http';
import type { PaymentPayload } from '@x402/core/types';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fundAccount } from '../../src/embedded/index.ts';
import { registerAgent } from '../helpers/agent.ts';
import { openTestDatabase, type TestDatabase } from '../helpers/database.ts';
import { newTenantKey } from '../helpers/facilitator.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import {
  askTerms,
  authorizationOf,
  encode,
  network,
  newPayer,
  openChain,
  type Payer,
  sendPaid,
} from '../helpers/payer.ts';
import { newPayerV1 } from '../helpers/payer-v1.ts';
import { send, type Sending } from '../helpers/request.ts';
import { callApi, price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

const usdc = '0x036CbD53842c5426634e7929541eC2318f3dCF7e';

describe('a payment', { timeout: 20_000 }, () => {
  let database: TestDatabase;
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let payer: Payer;
  let url: string;

  beforeAll(async () => {
    database = await openTestDatabase();
    instance = await startInstance({ env: { DATABASE_URL: database.url } });
    upstream = await startUpstream((_request, response) => response.end('paid for'));
    sold = await sell(instance, upstream.url, 'asked');
    url = `${sold.url}/paid`;
    payer = await newPayer(instance, 100n * price);
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  const pay = async (sending: Sending = {}) => {
    const payment = await payer.pay(await askTerms(url));
    const answer = await sendPaid(url, payment, sending);
    return { payment, answer };
  };
  const mine = (path: string) => callApi(instance, path, { credential: instance.info.api_key });
  const ask = (headers: Record<string, string>, query = '', from = '127.0.0.3') =>
    send(`${instance.info.gateway_url}/v1/payments/status${query}`, { headers, from });
  describe('is shown to its seller', () => {
    it('by id, with its state, its transaction and what comes next', async () => {
      const { payment, answer } = await pay();
      expect(answer.status).toBe(200);
      const list = await mine(`/v1/payments?payer=${payer.address.toLowerCase()}&limit=1`);
      const [listed] = list.json().data;
      expect(listed).toMatchObject({
        state: 'settled',
        mode: 'after_success',
        network,
        asset: usdc,
        amount: '10000',
        payer: payer.address,
        pay_to: sold.payTo,
        nonce: authorizationOf(payment).nonce,
        failure: null,
        replayable: true,
        next: { action: 'resend' },
        server_id: sold.serverId,
        agent_id: 'a-buyer',
        agent_verified: false,
      });
      expect((await mine(`/v1/payments/${listed.id}`)).json()).toEqual(listed);
      const receipt = await openChain(instance).client.getTransactionReceipt({ hash: listed.transaction });
      expect(receipt.status).toBe('success');
    });

    it('in pages, newest first, and by state, server, payer and time', async () => {
      for (let count = 0; count < 3; count += 1) await pay();
      const ids: string[] = [];
      for (let cursor = ''; ;) {
        const page = (await mine(`/v1/payments?limit=2${cursor}`)).json();
        ids.push(...page.data.map(({ id }: { id: string }) => id));
        if (!page.has_more) break;
        cursor = `&cursor=${page.next_cursor}`;
      }
      expect(ids).toEqual(ids.toSorted().toReversed());
      expect(new Set(ids).size).toBe(ids.length);
      expect(ids.length).toBeGreaterThan(3);
      const [newest] = (await mine('/v1/payments?limit=1')).json().data;
      const count = async (query: string) => {
        const { data } = (await mine(`/v1/payments?limit=100&${query}`)).json();
        return data.length;
      };
      expect(await count('state=settled')).toBe(ids.length);
      expect(await count('state=settlement_pending')).toBe(0);
      expect(await count(`server_id=${sold.serverId}`)).toBe(ids.length);
      expect(await count('server_id=srv_00000000000000000000000000')).toBe(0);
      expect(await count(`payer=${usdc}`)).toBe(0);
      expect(await count(`created_before=${newest.created_at}`)).toBe(ids.length - 1);
      expect(await count(`created_from=${newest.created_at}`)).toBe(1);
    });

    it.each([
      'state=paid',
      'created_from=yesterday',
      'created_before=2026-13-01T00:00:00Z',
      'limit=0',
      'colour=red',
    ])('and not for ?%s: 400', async (query) => {
      expect((await mine(`/v1/payments?${query}`)).status).toBe(400);
    });

    it('and to no other tenant, nor without the scope', async () => {
      const [listed] = (await mine('/v1/payments?limit=1')).json().data;
      const stranger = await newTenantKey(database.db);
      const path = `/v1/payments/${listed.id}`;
      expect((await callApi(instance, path, { credential: stranger })).status).toBe(404);
      expect((await callApi(instance, '/v1/payments', { credential: stranger })).json().data).toEqual([]);
      const weak = await newTenantKey(database.db, ['servers:read']);
      expect((await callApi(instance, path, { credential: weak })).status).toBe(403);
      for (const id of ['status', 'pay_x', `${listed.id}x`])
        expect((await mine(`/v1/payments/${id}`)).status).toBe(404);
    });
  });

  describe('is shown at the gateway, without an account', () => {
    it('to whoever sends it again with the secret of its terms, from anywhere', async () => {
      const { payment } = await pay();
      const asked = await ask({ 'payment-signature': encode(payment) });
      expect(asked.status, asked.text).toBe(200);
      expect(asked.headers['cache-control']).toBe('private, no-store');
      expect(asked.json()).toMatchObject({ state: 'settled', replayable: true, next: { action: 'resend' } });
      for (const hidden of ['server_id', 'agent_id', 'environment_id'])
        expect(asked.json()).not.toHaveProperty(hidden);
      const named = await ask({ 'credence-terms-secret': secretOf(payment) }, queryOf(payment));
      expect(named.json()).toEqual(asked.json());
    });

    it('to the agent that paid, by its token; and for some minutes by its plain id from the same address', async () => {
      const agent = await registerAgent(instance);
      const byAgent = await pay({ headers: { 'x-agent-id': agent.jwt } });
      const verified = { 'x-agent-id': agent.jwt, 'payment-signature': withoutSecret(byAgent.payment) };
      expect((await ask(verified)).status).toBe(200);
      expect((await ask({ ...verified, 'x-agent-id': agent.agent_id }, '', '127.0.0.1')).status).toBe(404);

      const { payment } = await pay({ from: '127.0.0.7' });
      const plain = { 'x-agent-id': 'a-buyer', 'payment-signature': withoutSecret(payment) };
      expect((await ask(plain, '', '127.0.0.7')).status).toBe(200);
      expect((await ask(plain, '', '127.0.0.8')).status).toBe(404);
    });

    it('in version 1 as well', async () => {
      const key = generatePrivateKey();
      const { address } = privateKeyToAccount(key);
      await fundAccount(instance.info.rpc_url, { address, tokenAtomic: price });
      const unpaid = await send(url, { headers: { 'x-agent-id': 'v1' } });
      const header = encode(await newPayerV1(key).pay(unpaid.json()));
      const headers = { 'x-agent-id': 'v1', 'x-payment': header };
      expect((await send(url, { headers, from: '127.0.0.3' })).status).toBe(200);
      expect((await ask(headers)).json()).toMatchObject({ state: 'settled', payer: address });
    });

    it('while nothing is charged yet, and after its upstream failed: the same payment may be sent again', async () => {
      upstream.behave((_request, response) => response.writeHead(500).end());
      const { payment, answer } = await pay();
      expect(answer.status).toBe(502);
      const asked = await ask({ 'payment-signature': encode(payment) });
      expect(asked.json()).toMatchObject({ state: 'claimed', transaction: null, next: { action: 'resend' } });

      upstream.requests.length = 0;
      const held: ServerResponse[] = [];
      upstream.behave((_request, response) => held.push(response));
      const running = sendPaid(url, payment);
      await expect.poll(() => upstream.requests.length).toBe(1);
      expect((await ask({ 'payment-signature': encode(payment) })).json()).toMatchObject({
        state: 'forwarding',
        next: { action: 'wait' },
      });
      held[0]?.end('at last');
      expect((await running).text).toBe('at last');
    });

    it('and to nobody else: strangers, other signatures and payments that were never presented are 404 alike', async () => {
      const never = await payer.pay(await askTerms(url));
      const [row] = (await mine('/v1/payments?state=settled&limit=1')).json().data;
      const query = `?network=${network}&asset=${usdc}&payer=${row.payer}&nonce=${row.nonce}`;
      const answers = [
        await ask({ 'payment-signature': encode(never) }),
        await ask({}, query),
        await ask({ 'x-agent-id': 'a-buyer' }, query),
        await ask({ 'credence-terms-secret': 'guessed' }, query),
        await ask({ 'credence-terms-secret': '' }, query),
      ];
      for (const answer of answers) expect([answer.status, answer.json().code]).toEqual([404, 'not_found']);
      expect(new Set(answers.map((answer) => answer.json().detail)).size).toBe(1);
    });

    it.each([
      [{}, '', 'invalid_request'],
      [{}, '?network=eip155:84532&asset=a&payer=b', 'invalid_request'],
      [{}, '?network=%00&asset=a&payer=b&nonce=c', 'invalid_request'],
      [{ 'payment-signature': 'e30=' }, '', 'invalid_payment'],
      [{ 'payment-signature': 'e30=', 'x-payment': 'e30=' }, '', 'invalid_payment'],
    ])('%j %s is 400', async (headers, query, code) => {
      const answer = await ask(headers, query);
      expect([answer.status, answer.json().code]).toEqual([400, code]);
    });
  });
});

function secretOf({ extensions = {} }: PaymentPayload): string {
  return (extensions['credence-retrieval'] as { info: { secret: string } }).info.secret;
}

function queryOf(payment: PaymentPayload): string {
  const { from, nonce } = authorizationOf(payment);
  return `?network=${network}&asset=${usdc.toLowerCase()}&payer=${from.toLowerCase()}&nonce=${nonce}`;
}

/** The same payment as somebody has it who read it on the chain. */
function withoutSecret(payment: PaymentPayload): string {
  return encode({ ...payment, extensions: {} });
}
