import { expect } from 'vitest';
import { createApiKey, findEnvironment } from '../../src/accounts/index.ts';
import type { Database } from '../../src/db/index.ts';
import type { EnvironmentId } from '../../src/kernel/ids.ts';
import { balanceOf, findDiscrepancies } from '../../src/ledger/index.ts';
import { type Buyer, newBuyer } from './credits.ts';
import { openTestDatabase, testContext } from './database.ts';
import { findFreePort, type Instance, startInstance } from './instance.ts';
import { callApi, price, sell, type Sold } from './seller.ts';
import { startUpstream, type Upstream } from './upstream.ts';

export const currency = 'USDC.sandbox';
export const operatorKey = 'an-operator-of-this-test-and-no-other';

/** A seller who takes credits, behind two processes of one instance. */
export interface CreditsScene {
  db: Database;
  first: Instance;
  second: Instance;
  upstream: Upstream;
  sold: Sold;
  /** The same call at each of the two. */
  url: string;
  secondUrl: string;
  /** A buyer with credits for ten calls, before an upstream that has run nothing yet. */
  begin(): Promise<Buyer>;
  /** The owner registers the key, with an API key of its environment. */
  registered(one: Buyer): Promise<Buyer>;
  credentialOf(one: Buyer): Promise<string>;
  accountOf(environmentId: string): Promise<{ balance: bigint; held: bigint }>;
  /** Of the credits that `begin` gave. */
  spentBy(buyer: Buyer): Promise<bigint>;
  close(): Promise<void>;
}

export async function openCreditsScene(): Promise<CreditsScene> {
  const { db, url: databaseUrl } = await openTestDatabase();
  const ports = { api: await findFreePort(), gateway: await findFreePort() };
  const env = {
    DATABASE_URL: databaseUrl,
    CREDENCE_MASTER_KEY: '07'.repeat(32),
    CREDENCE_OPERATOR_KEY: operatorKey,
    CREDENCE_GATEWAY_URL: `http://localhost:${ports.gateway}`,
  };
  const first = await startInstance({ env, ports });
  const others = { api: await findFreePort(), gateway: await findFreePort() };
  const second = await startInstance({ env: { ...env, CREDENCE_ROLES: 'control,gateway' }, ports: others });
  const upstream = await startUpstream(() => undefined);
  const sold = await sell(first, upstream.url, 'in-credits', { hosted: true });
  const url = `${sold.url}/paid/answer?question=1`;

  async function credentialOf(one: Buyer): Promise<string> {
    const environment = await findEnvironment(db, one.environmentId);
    if (!environment) throw new Error('no environment');
    const scopes = ['wallets:read', 'wallets:write'];
    return (await createApiKey(testContext(db), { environment, name: 'test', scopes })).key;
  }
  async function registered(one: Buyer): Promise<Buyer> {
    const answer = await callApi(first, '/v1/wallet/credit-keys', {
      body: { jwk: one.jwk, name: 'a test' },
      credential: await credentialOf(one),
    });
    expect(answer.status).toBe(201);
    return one;
  }
  const accountOf = (environmentId: string) =>
    balanceOf(db, { environmentId: environmentId as EnvironmentId, kind: 'available', currency });

  return {
    db,
    first,
    second,
    upstream,
    sold,
    url,
    secondUrl: url.replace(String(ports.gateway), String(others.gateway)),
    async begin() {
      const buyer = await registered(await newBuyer(db, { credits: 10n * price }));
      upstream.requests.length = 0;
      upstream.behave((request, response) => {
        setTimeout(() => response.end(`run ${upstream.requests.length} of ${request.url}`), 50);
      });
      return buyer;
    },
    registered,
    credentialOf,
    accountOf,
    spentBy: async (buyer) => 10n * price - (await accountOf(buyer.environmentId)).balance,
    async close() {
      await upstream.close();
      await Promise.all([first.stop(), second.stop()]);
    },
  };
}

/** Invariant 5, and that nothing is held but what calls under way have reserved. */
export async function expectBooksRight(db: Database): Promise<void> {
  expect(await findDiscrepancies(db)).toEqual([]);
  const [row] = await db.query<{ held: bigint; forwarding: bigint }>(
    `SELECT (SELECT coalesce(sum(held), 0) FROM ledger_accounts) AS held,
         (SELECT coalesce(sum(amount), 0) FROM payments
          WHERE network = 'credence:credits' AND state = 'forwarding') AS forwarding`,
  );
  expect(row?.held).toBe(row?.forwarding);
}
