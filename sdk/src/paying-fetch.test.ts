import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { getMandate, registerAgent } from '../../server/test/helpers/agent.ts';
import { type Instance, startInstance } from '../../server/test/helpers/instance.ts';
import { decode, encode } from '../../server/test/helpers/payer.ts';
import { startUpstream, type Upstream } from '../../server/test/helpers/upstream.ts';
import { createClient } from './client.ts';
import { createPayingFetch } from './paying-fetch.ts';

const versions = [
  { version: 1, paid: 'x-payment', settled: 'X-PAYMENT-RESPONSE' },
  { version: 2, paid: 'payment-signature', settled: 'PAYMENT-RESPONSE' },
] as const;

describe('a fetch that pays', { timeout: 30_000 }, () => {
  let instance: Instance;
  let seller: Upstream;

  beforeAll(async () => {
    instance = await startInstance();
    seller = await startUpstream((_, response) => response.end());
  }, 60_000);
  afterAll(async () => {
    await seller?.close();
    await instance?.stop();
  }, 60_000);

  /** Somebody else's gateway before the demo API: it asks in one version alone, and then behaves as `answers` say. */
  async function sellAs(
    version: 1 | 2,
    answers: ((headers: (name: string, value: unknown) => void) => number)[],
  ) {
    const terms = await fetch(instance.info.demo_url, { headers: { 'x-agent-id': 'a-seller' } });
    const header = terms.headers.get('payment-required') ?? '';
    const body = await terms.text();
    const before = seller.requests.length;
    seller.behave((_, response) => {
      const turn = seller.requests.length - before - 2;
      if (turn < 0) {
        if (version === 2) response.setHeader('PAYMENT-REQUIRED', header);
        response.writeHead(402, { 'content-type': 'application/json' }).end(version === 1 ? body : '{}');
        return;
      }
      const answer = answers[turn];
      const status = answer?.((name, value) => response.setHeader(name, encode(value))) ?? 500;
      if (status === 0) response.destroy();
      else response.writeHead(status).end(status === 200 ? 'delivered' : '{}');
    });
    return () => seller.requests.slice(before);
  }

  async function buyer() {
    const agent = await registerAgent(instance);
    const mandateId = await getMandate(instance, agent, { limitAmount: '10000' });
    const client = createClient({ apiUrl: instance.info.api_url, credential: agent.jwt });
    return createPayingFetch({ client, mandateId, agentId: agent.agent_id });
  }

  it.each(versions)(
    'pays a seller of version $version alone; where its settlement is pending, or its connection breaks, with the same payment',
    async ({ version, paid, settled }) => {
      const pending = {
        success: false,
        errorReason: 'settlement_pending',
        transaction: '0xab',
        network: 'x',
      };
      const requests = await sellAs(version, [
        (set) => (set(settled, pending), 402),
        () => 0,
        (set) => (set(settled, pending), 402),
        (set) => (set(settled, { ...pending, success: true }), 200),
      ]);
      const response = await (await buyer())(seller.url, { method: 'POST', body: 'question' });
      expect(response.status).toBe(200);
      expect(await response.text()).toBe('delivered');
      const [first, ...others] = requests();
      expect(first?.headers).not.toHaveProperty(paid);
      expect(others.length).toBe(4);
      expect(new Set(others.map(({ headers }) => headers[paid])).size).toBe(1);
      expect(decode(others[0]?.headers[paid])).toMatchObject({ x402Version: version });
      expect(requests().map(({ body }) => body)).toEqual(Array.from({ length: 5 }, () => 'question'));
    },
  );

  it.each(versions)(
    'gives up what version $version says has failed, and signs nothing more',
    async ({ version, settled }) => {
      const failed = {
        success: false,
        errorReason: 'invalid_exact_evm_signature',
        transaction: '',
        network: 'x',
      };
      const requests = await sellAs(version, [(set) => (set(settled, failed), 402)]);
      const response = await (await buyer())(seller.url);
      expect(response.status).toBe(402);
      expect(requests().length).toBe(2);
    },
  );

  it('hands over a 402 that is none of x402', async () => {
    seller.behave((_, response) => response.writeHead(402).end('pay me'));
    const response = await (await buyer())(seller.url);
    expect([response.status, await response.text()]).toEqual([402, 'pay me']);
  });
});
