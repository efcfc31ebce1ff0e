import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { findEnvironment } from '../../src/accounts/index.ts';
import { type Database, write } from '../../src/db/index.ts';
import { transfer } from '../../src/ledger/index.ts';
import { issueCredits } from '../../src/wallet/index.ts';
import { type Buyer, newBuyer } from '../helpers/credits.ts';
import {
  type CreditsScene,
  currency,
  expectBooksRight,
  openCreditsScene,
  operatorKey,
} from '../helpers/credits-scene.ts';
import { testContext } from '../helpers/database.ts';
import type { Instance } from '../helpers/instance.ts';
import { askTerms, decode, sendPaid } from '../helpers/payer.ts';
import { send } from '../helpers/request.ts';
import { callApi, price, sell, type Sold } from '../helpers/seller.ts';
import type { Upstream } from '../helpers/upstream.ts';
import { withheld } from '../helpers/withheld.ts';

describe('a call paid with credits', { timeout: 30_000 }, () => {
  let scene: CreditsScene;
  let db: Database;
  let first: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let buyer: Buyer;
  let url: string;
  let secondUrl: string;
  let earnedBefore: bigint;

  beforeAll(async () => {
    scene = await openCreditsScene();
    ({ db, first, upstream, sold, url, secondUrl } = scene);
  }, 120_000);
  afterAll(() => scene?.close(), 60_000);
  beforeEach(async () => {
    buyer = await scene.begin();
    earnedBefore = await earned();
  });

  const earned = async () => (await scene.accountOf(first.info.environment_id)).balance;
  const spent = () => scene.spentBy(buyer);

  it('is offered beside the chain where the payee is an environment here, for exactly the price', async () => {
    const { accepts } = await askTerms(url);
    expect(accepts).toHaveLength(2);
    expect(accepts[0]).toMatchObject({ network: 'eip155:84532', payTo: sold.payTo });
    expect(accepts[1]).toEqual({
      scheme: 'exact',
      network: 'credence:credits',
      amount: String(price),
      asset: currency,
      payTo: first.info.environment_id,
      maxTimeoutSeconds: 120,
      extra: { audience: first.info.gateway_url },
    });
    const unpaid = await fetch(url, { headers: { 'x-agent-id': 'a-buyer' } });
    const { accepts: v1 } = (await unpaid.json()) as { accepts: unknown[] };
    expect(v1, 'version 1 has no name for it').toHaveLength(1);
    const direct = await sell(first, upstream.url, 'direct');
    expect((await askTerms(`${direct.url}/paid`)).accepts).toHaveLength(1);
  });

  it.each(['ES256', 'EdDSA'] as const)(
    'with %s, moves the price once, and says so; sent again it gives the stored answer',
    async (algorithm) => {
      const other = await scene.registered(await newBuyer(db, { credits: price, algorithm }));
      const payment = await other.pay(url);
      const answers = [await sendPaid(url, payment), await sendPaid(secondUrl, payment)];
      for (const answer of answers) {
        expect(answer).toMatchObject({ status: 200, text: 'run 1 of /v1/paid/answer?question=1' });
        expect(decode(answer.headers['payment-response'])).toMatchObject({
          success: true,
          network: 'credence:credits',
          payer: other.environmentId,
          transaction: expect.stringMatching(/^pay_.*\/1$/),
        });
      }
      expect(await scene.accountOf(other.environmentId)).toEqual({ balance: 0n, held: 0n });
      expect((await earned()) - earnedBefore).toBe(price);
      await expectBooksRight(db);
    },
  );

  it('is given out by the operator alone, once for each Idempotency-Key', async () => {
    const issue = (credential: string) =>
      callApi(first, '/v1/credits/issue', {
        body: { environment_id: buyer.environmentId, amount: '5', reason: 'a test' },
        credential,
        headers: { 'idempotency-key': 'issue-1' },
      });
    const answers = [await issue(operatorKey), await issue(operatorKey)];
    for (const answer of answers)
      expect(answer.json()).toMatchObject({ currency, balance: String(10n * price + 5n) });
    expect((await issue(await scene.credentialOf(buyer))).status).toBe(403);
    expect((await scene.accountOf(buyer.environmentId)).balance).toBe(10n * price + 5n);
    await expectBooksRight(db);
  });

  it('leaves one audit event, and its outbox entry is taken', async () => {
    expect((await sendPaid(url, await buyer.pay(url))).status).toBe(200);
    const events = await db.query<{ data: object }>(
      `SELECT data FROM audit_events WHERE action = 'payment.settled' AND data ->> 'payer' = $1`,
      [buyer.environmentId],
    );
    expect(events).toMatchObject([{ data: { amount: String(price), asset: currency } }]);
    await expect.poll(() => db.query('SELECT 1 FROM outbox'), { timeout: 5_000 }).toEqual([]);
  });

  it('sent 20 times at once to two processes, runs the upstream once and is charged once', async () => {
    const payment = await buyer.pay(url);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) => sendPaid(index % 2 ? url : secondUrl, payment)),
    );
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    expect(upstream.requests).toHaveLength(1);
    expect(await spent()).toBe(price);
    expect((await earned()) - earnedBefore).toBe(price);
    await expectBooksRight(db);
  });

  it('shows its payer what became of it, by the payment as it was sent, and nobody else', async () => {
    const payment = await buyer.pay(url);
    expect((await sendPaid(url, payment)).status).toBe(200);
    const answer = await askStatus(first, payment);
    expect([answer.status, answer.json()]).toMatchObject([
      200,
      { state: 'settled', network: 'credence:credits', payer: buyer.environmentId },
    ]);
    const withoutSecret = Buffer.from(JSON.stringify({ ...decode(payment), extensions: {} }));
    expect((await askStatus(first, withoutSecret.toString('base64'))).status).toBe(404);
  });

  it('a hundred at once over two processes, with the money for ten, runs exactly ten', async () => {
    const payments = await Promise.all(Array.from({ length: 100 }, () => buyer.pay(url)));
    const answers = await Promise.all(
      payments.map((payment, index) => sendPaid(index % 2 ? url : secondUrl, payment)),
    );
    const statuses = answers.map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(10);
    const refused = answers.filter(({ status }) => status !== 200);
    for (const answer of refused)
      expect(answer.json()).toMatchObject({ status: 402, code: 'insufficient_funds' });
    expect(upstream.requests).toHaveLength(10);
    expect(await scene.accountOf(buyer.environmentId)).toEqual({ balance: 0n, held: 0n });
    await expectBooksRight(db);
  });

  it('refused for want of money, leaves nothing: the same payment buys the call once there is some', async () => {
    const poor = await scene.registered(await newBuyer(db, { credits: 0n }));
    const payment = await poor.pay(url);
    const refusals = await Promise.all(Array.from({ length: 10 }, () => sendPaid(url, payment)));
    for (const answer of refusals) expect(answer.json()).toMatchObject({ code: 'insufficient_funds' });
    expect(await db.query('SELECT 1 FROM payment_claims WHERE payer = $1', [poor.environmentId])).toEqual([]);
    expect(await db.query('SELECT 1 FROM payments WHERE payer = $1', [poor.environmentId])).toEqual([]);

    await give(poor, price);
    expect((await sendPaid(url, payment)).status).toBe(200);
    await expectBooksRight(db);
  });

  it('is given back where the upstream fails, and the same payment may be tried again, while there is money', async () => {
    upstream.behave((_, response) => response.writeHead(500).end());
    const payment = await buyer.pay(url);
    expect((await sendPaid(url, payment)).status).toBe(502);
    expect(await scene.accountOf(buyer.environmentId)).toEqual({ balance: 10n * price, held: 0n });

    await take(buyer, 10n * price);
    expect((await sendPaid(url, payment)).json()).toMatchObject({ code: 'insufficient_funds' });
    await give(buyer, 10n * price);
    upstream.behave((_, response) => response.writeHead(404).end('no such thing'));
    expect(await sendPaid(url, payment)).toMatchObject({ status: 404, text: 'no such thing' });
    upstream.behave((_, response) => response.end('at last'));
    expect(await sendPaid(url, payment)).toMatchObject({ status: 200, text: 'at last' });
    expect(await spent()).toBe(price);
    await expectBooksRight(db);
  });

  it('that streams is charged at its headers, and not a second time', async () => {
    upstream.behave((_, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('data: one\n\n');
      setTimeout(() => response.end('data: two\n\n'), 100);
    });
    const payment = await buyer.pay(url);
    expect(await sendPaid(url, payment)).toMatchObject({ status: 200, text: 'data: one\n\ndata: two\n\n' });
    expect((await sendPaid(url, payment)).json()).toMatchObject({ code: 'response_not_replayable' });
    expect(await spent()).toBe(price);
    await expectBooksRight(db);
  });

  it('for another request is refused, and its answer is withheld from a stranger', async () => {
    const payment = await buyer.pay(url);
    expect((await sendPaid(url, payment)).status).toBe(200);
    const elsewhere = await sendPaid(`${sold.url}/paid/other`, payment);
    expect(elsewhere.json()).toMatchObject({ code: 'payment_already_used' });
    const { extensions: _, ...bare } = decode(payment);
    const stranger = await sendPaid(url, bare, { from: '127.0.0.2' });
    expect(stranger).toMatchObject(withheld);
    expect(upstream.requests).toHaveLength(1);
    expect(await spent()).toBe(price);
  });

  it('shows its owner what is left, and what is held', async () => {
    const credential = await scene.credentialOf(buyer);
    upstream.behave(() => undefined);
    const payment = await buyer.pay(url);
    const gone = new AbortController();
    const call = sendPaid(url, payment, { signal: gone.signal }).catch(() => 'gone');
    await expect.poll(() => upstream.requests.length).toBe(1);
    expect((await callApi(first, '/v1/wallet/credits', { credential })).json()).toEqual({
      currency,
      balance: String(10n * price),
      held: String(price),
      available: String(9n * price),
    });
    await expectBooksRight(db);
    // The worker finds what is held by nobody, once the lease of its attempt is over.
    await db.query(`UPDATE payments SET lease_until = now() WHERE payer = $1`, [buyer.environmentId]);
    await expect
      .poll(() => scene.accountOf(buyer.environmentId), { timeout: 10_000 })
      .toEqual({ balance: 10n * price, held: 0n });
    await expectBooksRight(db);
    gone.abort();
    expect(await call).toBe('gone');
  });

  async function give(to: Buyer, amount: bigint): Promise<void> {
    const environment = await findEnvironment(db, to.environmentId);
    if (!environment) throw new Error('no environment');
    const issue = { amount, key: crypto.randomUUID(), reason: 'a test' };
    await issueCredits(testContext(db), environment, issue);
  }

  async function take(from: Buyer, amount: bigint): Promise<void> {
    await write(testContext(db), async (sql, now) => ({
      result: await transfer(
        sql,
        {
          key: crypto.randomUUID(),
          debit: { environmentId: from.environmentId, kind: 'available' },
          credit: { environmentId: 'instance', kind: 'issued' },
          currency,
          amount,
        },
        now,
      ),
      audit: null,
    }));
  }
});

function askStatus({ info }: Instance, header: string) {
  return send(`${info.gateway_url}/v1/payments/status`, { headers: { 'payment-signature': header } });
}
