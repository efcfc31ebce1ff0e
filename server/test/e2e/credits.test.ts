import { generateKeyPair } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createApiKey, findEnvironment } from '../../src/accounts/index.ts';
import { type Database, write } from '../../src/db/index.ts';
import { balanceOf, findDiscrepancies, transfer } from '../../src/ledger/index.ts';
import { issueCredits } from '../../src/wallet/index.ts';
import { type Buyer, type Change, newBuyer } from '../helpers/credits.ts';
import { openTestDatabase, testContext } from '../helpers/database.ts';
import { findFreePort, type Instance, startInstance } from '../helpers/instance.ts';
import { askTerms, decode, sendPaid } from '../helpers/payer.ts';
import { send } from '../helpers/request.ts';
import { callApi, price, sell, type Sold } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';
import { withheld } from '../helpers/withheld.ts';

const currency = 'USDC.sandbox';
const operatorKey = 'an-operator-of-this-test-and-no-other';

describe('a call paid with credits', { timeout: 30_000 }, () => {
  let db: Database;
  /** Two processes of one instance. */
  let first: Instance;
  let second: Instance;
  let upstream: Upstream;
  let sold: Sold;
  let buyer: Buyer;
  let url: string;
  let secondUrl: string;
  let earnedBefore: bigint;

  beforeAll(async () => {
    const database = await openTestDatabase();
    db = database.db;
    const ports = { api: await findFreePort(), gateway: await findFreePort() };
    const env = {
      DATABASE_URL: database.url,
      CREDENCE_MASTER_KEY: '07'.repeat(32),
      CREDENCE_OPERATOR_KEY: operatorKey,
      CREDENCE_GATEWAY_URL: `http://localhost:${ports.gateway}`,
    };
    first = await startInstance({ env, ports });
    const others = { api: await findFreePort(), gateway: await findFreePort() };
    second = await startInstance({ env: { ...env, CREDENCE_ROLES: 'control,gateway' }, ports: others });
    upstream = await startUpstream(() => undefined);
    sold = await sell(first, upstream.url, 'in-credits', { hosted: true });
    url = `${sold.url}/paid/answer?question=1`;
    secondUrl = url.replace(String(ports.gateway), String(others.gateway));
  }, 120_000);
  afterAll(async () => {
    await upstream?.close();
    await Promise.all([first?.stop(), second?.stop()]);
  }, 60_000);
  beforeEach(async () => {
    buyer = await registered(await newBuyer(db, { credits: 10n * price }));
    earnedBefore = await earned();
    upstream.requests.length = 0;
    upstream.behave((request, response) => {
      setTimeout(() => response.end(`run ${upstream.requests.length} of ${request.url}`), 50);
    });
  });

  /** The owner registers the key, with an API key of its environment. */
  async function registered(one: Buyer): Promise<Buyer> {
    const answer = await callApi(first, '/v1/wallet/credit-keys', {
      body: { jwk: one.jwk, name: 'a test' },
      credential: await credentialOf(one),
    });
    expect(answer.status).toBe(201);
    return one;
  }
  async function credentialOf(one: Buyer): Promise<string> {
    const environment = await findEnvironment(db, one.environmentId);
    if (!environment) throw new Error('no environment');
    const scopes = ['wallets:read', 'wallets:write'];
    return (await createApiKey(testContext(db), { environment, name: 'test', scopes })).key;
  }
  async function accountOf(environmentId: string) {
    return balanceOf(db, {
      environmentId: environmentId as Buyer['environmentId'],
      kind: 'available',
      currency,
    });
  }
  const earned = async () => (await accountOf(first.info.environment_id)).balance;
  const spent = async () => 10n * price - (await accountOf(buyer.environmentId)).balance;

  /** Invariant 5, and that nothing is held but what calls under way have reserved. */
  async function expectBooksRight(): Promise<void> {
    expect(await findDiscrepancies(db)).toEqual([]);
    const [row] = await db.query<{ held: bigint; forwarding: bigint }>(
      `SELECT (SELECT coalesce(sum(held), 0) FROM ledger_accounts) AS held,
         (SELECT coalesce(sum(amount), 0) FROM payments
          WHERE network = 'credence:credits' AND state = 'forwarding') AS forwarding`,
    );
    expect(row?.held).toBe(row?.forwarding);
  }

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
      const other = await registered(await newBuyer(db, { credits: price, algorithm }));
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
      expect(await accountOf(other.environmentId)).toEqual({ balance: 0n, held: 0n });
      expect((await earned()) - earnedBefore).toBe(price);
      await expectBooksRight();
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
    expect((await issue(await credentialOf(buyer))).status).toBe(403);
    expect((await accountOf(buyer.environmentId)).balance).toBe(10n * price + 5n);
    await expectBooksRight();
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
    await expectBooksRight();
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
    expect(await accountOf(buyer.environmentId)).toEqual({ balance: 0n, held: 0n });
    await expectBooksRight();
  });

  it('refused for want of money, leaves nothing: the same payment buys the call once there is some', async () => {
    const poor = await registered(await newBuyer(db, { credits: 0n }));
    const payment = await poor.pay(url);
    const refusals = await Promise.all(Array.from({ length: 10 }, () => sendPaid(url, payment)));
    for (const answer of refusals) expect(answer.json()).toMatchObject({ code: 'insufficient_funds' });
    expect(await db.query('SELECT 1 FROM payment_claims WHERE payer = $1', [poor.environmentId])).toEqual([]);
    expect(await db.query('SELECT 1 FROM payments WHERE payer = $1', [poor.environmentId])).toEqual([]);

    await give(poor, price);
    expect((await sendPaid(url, payment)).status).toBe(200);
    await expectBooksRight();
  });

  it('is given back where the upstream fails, and the same payment may be tried again, while there is money', async () => {
    upstream.behave((_, response) => response.writeHead(500).end());
    const payment = await buyer.pay(url);
    expect((await sendPaid(url, payment)).status).toBe(502);
    expect(await accountOf(buyer.environmentId)).toEqual({ balance: 10n * price, held: 0n });

    await take(buyer, 10n * price);
    expect((await sendPaid(url, payment)).json()).toMatchObject({ code: 'insufficient_funds' });
    await give(buyer, 10n * price);
    upstream.behave((_, response) => response.writeHead(404).end('no such thing'));
    expect(await sendPaid(url, payment)).toMatchObject({ status: 404, text: 'no such thing' });
    upstream.behave((_, response) => response.end('at last'));
    expect(await sendPaid(url, payment)).toMatchObject({ status: 200, text: 'at last' });
    expect(await spent()).toBe(price);
    await expectBooksRight();
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
    await expectBooksRight();
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

  it.each<[string, string, (seconds: number) => Change | Promise<Change>]>([
    ['an audience of another instance', 'audience', () => ({ claims: { aud: 'https://elsewhere.example' } })],
    ['a list of audiences', 'audience', () => ({ claims: { aud: [first.info.gateway_url] } })],
    ['another payee', 'recipient_mismatch', () => ({ claims: { payee: buyer.environmentId } })],
    ['an atom less', 'amount_mismatch', () => ({ claims: { amount: String(price - 1n) } })],
    ['an atom more', 'amount_mismatch', () => ({ claims: { amount: String(price + 1n) } })],
    ['an end that has passed', 'expiry', (now) => ({ claims: { exp: now - 1 } })],
    ['an end before the call could end', 'expiry', (now) => ({ claims: { exp: now + 50 } })],
    ['an end beyond what anybody asked for', 'expiry', (now) => ({ claims: { exp: now + 3_700 } })],
    ['a time that is yet to come', 'not_before', (now) => ({ claims: { iat: now + 60 } })],
    ['another typ', 'signature', () => ({ header: { typ: 'at+jwt' } })],
    ['no typ', 'signature', () => ({ header: { typ: undefined } })],
    ['a critical extension', 'signature', () => ({ header: { crit: ['x'], x: 1 } })],
    ['a key that nobody registered', 'key', () => ({ header: { kid: 'x'.repeat(43) } })],
    [
      'another key’s signature',
      'signature',
      async () => ({ key: (await generateKeyPair('ES256')).privateKey }),
    ],
    [
      'another algorithm than its key’s',
      'signature',
      async () => ({
        header: { alg: 'EdDSA' },
        key: (await generateKeyPair('EdDSA', { crv: 'Ed25519' })).privateKey,
      }),
    ],
    ['alg none', 'signature', () => ({ forge: withHeader({ alg: 'none' }) })],
    ['a signature of nothing', 'signature', () => ({ forge: (jws) => jws.replace(/[^.]+$/, 'AA') })],
    ['claims that were changed after signing', 'signature', () => ({ forge: withOtherNonce })],
  ])('with %s is refused', async (_, reason, change) => {
    const payment = await buyer.pay(url, await change(Math.floor(Date.now() / 1000)));
    const answer = await sendPaid(url, payment);
    expect(answer.status).toBe(402);
    expect(decode(answer.headers['payment-required']).error).toBe(`invalid_exact_credits_payload_${reason}`);
    expect(upstream.requests).toHaveLength(0);
    expect(await spent()).toBe(0n);
  });

  it.each<[string, Change]>([
    ['no nonce', { claims: { jti: undefined } }],
    ['a short nonce', { claims: { jti: 'short' } }],
    ['no end', { claims: { exp: undefined } }],
    ['an end that is no number', { claims: { exp: '9999999999' } }],
    ['an amount that is a number', { claims: { amount: 10_000 } }],
    ['no payer', { claims: { payer: 'nobody' } }],
    ['an empty signature', { forge: (jws) => jws.replace(/[^.]+$/, '') }],
    ['four parts', { forge: (jws) => `${jws}.AA` }],
    ['no JSON', { forge: () => 'AAAA.AAAA.AAAA' }],
  ])('with %s can’t be read', async (_, change) => {
    const answer = await sendPaid(url, await buyer.pay(url, change));
    expect(answer.json()).toMatchObject({ status: 400, code: 'invalid_payment' });
    expect(upstream.requests).toHaveLength(0);
  });

  it('by another environment’s key is refused: a key pays for its owner alone', async () => {
    const rich = await registered(await newBuyer(db, { credits: price }));
    const answer = await sendPaid(url, await buyer.pay(url, { claims: { payer: rich.environmentId } }));
    expect(decode(answer.headers['payment-required']).error).toBe('invalid_exact_credits_payload_key');
    expect(await accountOf(rich.environmentId)).toEqual({ balance: price, held: 0n });
  });

  it.each([
    ['says so', {}, 'invalid_exact_credits_payload_key'],
    ['names its own currency', { asset: 'USDC' }, 'invalid_payment_requirements'],
  ])('from production to a sandbox is refused, whether it %s or not', async (_, claims, error) => {
    const production = await registered(await newBuyer(db, { credits: price, kind: 'production' }));
    const answer = await sendPaid(url, await production.pay(url, { claims }));
    expect(decode(answer.headers['payment-required']).error).toBe(error);
  });

  it('to a seller who is paid elsewhere is refused', async () => {
    const direct = await sell(first, upstream.url, 'paid-elsewhere');
    const answer = await sendPaid(`${direct.url}/paid`, await buyer.pay(url));
    expect(decode(answer.headers['payment-required']).error).toBe('invalid_network');
  });

  it('by a key that was revoked is refused by every process, also where it had been claimed before; it can’t come back', async () => {
    const credential = await credentialOf(buyer);
    upstream.behave((_, response) => response.writeHead(500).end());
    const open = await buyer.pay(url);
    expect((await sendPaid(secondUrl, open)).status).toBe(502);

    const { data } = (await callApi(first, '/v1/wallet/credit-keys', { credential })).json();
    const path = `/v1/wallet/credit-keys/${data[0].kid}`;
    expect((await callApi(first, path, { method: 'DELETE', credential })).status).toBe(204);
    for (const at of [url, secondUrl]) {
      const error = async (payment: string) =>
        decode((await sendPaid(at, payment)).headers['payment-required'] ?? 'e30=').error;
      await expect.poll(() => buyer.pay(url).then(error), { timeout: 5_000 }).toMatch(/_key$/);
      expect(await error(open)).toMatch(/_key$/);
    }
    const again = { body: { jwk: buyer.jwk, name: 'again' }, credential };
    expect((await callApi(first, '/v1/wallet/credit-keys', again)).status).toBe(409);
    expect((await callApi(first, path, { method: 'DELETE', credential })).status).toBe(404);
    expect(await spent()).toBe(0n);
  });

  it('shows its owner what is left, and what is held', async () => {
    const credential = await credentialOf(buyer);
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
    await expectBooksRight();
    // The worker finds what is held by nobody, once the lease of its attempt is over.
    await db.query(`UPDATE payments SET lease_until = now() WHERE payer = $1`, [buyer.environmentId]);
    await expect
      .poll(() => accountOf(buyer.environmentId), { timeout: 10_000 })
      .toEqual({ balance: 10n * price, held: 0n });
    await expectBooksRight();
    gone.abort();
    expect(await call).toBe('gone');
  });

  it.each([
    ['a private key', { kty: 'OKP', crv: 'Ed25519', x: 'A'.repeat(43), d: 'A'.repeat(43) }],
    ['a point that is on no curve', { kty: 'EC', crv: 'P-256', x: 'A'.repeat(43), y: 'A'.repeat(43) }],
    ['another curve', { kty: 'EC', crv: 'P-384', x: 'A'.repeat(64), y: 'A'.repeat(64) }],
    ['a shared secret', { kty: 'oct', k: 'AAAA' }],
  ])('%s isn’t registered', async (_, jwk) => {
    const credential = await credentialOf(buyer);
    const answer = await callApi(first, '/v1/wallet/credit-keys', { body: { jwk }, credential });
    expect(answer.json()).toMatchObject({ code: 'invalid_request' });
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

/** Another header under the same signature. */
function withHeader(header: object): (jws: string) => string {
  return (jws) => {
    const [head = '', ...rest] = jws.split('.');
    const signed = JSON.parse(Buffer.from(head, 'base64url').toString()) as object;
    return [Buffer.from(JSON.stringify({ ...signed, ...header })).toString('base64url'), ...rest].join('.');
  };
}

function withOtherNonce(jws: string): string {
  const [head, body = '', signature] = jws.split('.');
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as object;
  const changed = Buffer.from(JSON.stringify({ ...claims, jti: crypto.randomUUID() })).toString('base64url');
  return [head, changed, signature].join('.');
}
