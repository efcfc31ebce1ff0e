import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { zeroAddress } from 'viem';
import { networks } from '../../src/x402/index.ts';
import { openTestDatabase, type TestDatabase } from '../helpers/database.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { askTerms, newPayer, sendPaid } from '../helpers/payer.ts';
import { callApi, price, sell } from '../helpers/seller.ts';
import { startUpstream, type Upstream } from '../helpers/upstream.ts';

describe('what could never be settled', { timeout: 30_000 }, () => {
  let database: TestDatabase;
  let instance: Instance;
  let upstream: Upstream;
  const token = networks.sandbox.asset.address;

  beforeAll(async () => {
    database = await openTestDatabase();
    instance = await startInstance({ env: { DATABASE_URL: database.url } });
    upstream = await startUpstream((_request, response) => void response.end('work'));
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  it.each([
    ['the zero address', zeroAddress],
    ['the token', token],
    ['the token, in small letters', token.toLowerCase()],
    ['the batch contract', '0xcA11bde05977b3631167028862bE2a173976CA11'],
  ])('is not put on sale: paid to %s', async (_what, pay_to) => {
    const body = { name: 'lost', base_url: upstream.url, pay_to };
    const answer = await callApi(instance, '/v1/servers', { body, credential: instance.info.api_key });
    expect([answer.status, answer.json().code]).toEqual([400, 'invalid_request']);
  });

  it('is not published, where the token refuses its payee since', async () => {
    const sold = await sell(instance, upstream.url, 'refused');
    await database.db.query('UPDATE servers SET pay_to = $1 WHERE slug = $2', [token, 'refused']);
    const path = `/v1/servers/${sold.serverId}/publish`;
    const answer = await callApi(instance, path, { body: {}, credential: instance.info.api_key });
    expect([answer.status, answer.json().code]).toEqual([409, 'conflict']);
  });

  it('is not worked for: a payment that the next block may still be too early for', async () => {
    const sold = await sell(instance, upstream.url, 'early');
    const url = `${sold.url}/paid`;
    const payer = await newPayer(instance, price);
    const terms = await askTerms(url);
    const now = Math.floor(Date.now() / 1000);
    const answer = await sendPaid(url, await payer.payWith(terms, { validAfter: String(now) }));
    expect([answer.status, answer.json().code]).toEqual([402, 'payment_invalid']);
    expect(answer.json().detail).toContain('authorization_valid_after');
    expect(upstream.requests).toEqual([]);
    const later = await sendPaid(url, await payer.pay(terms));
    expect([later.status, later.text]).toEqual([200, 'work']);
  });
});
