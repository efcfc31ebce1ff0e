import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { balanceOf, findDiscrepancies } from '../../src/ledger/index.ts';
import { registerCreditKey } from '../../src/wallet/index.ts';
import { newBuyer } from '../helpers/credits.ts';
import { openTestDatabase, testContext } from '../helpers/database.ts';
import { findFreePort, type Instance, startInstance } from '../helpers/instance.ts';
import { sendPaid } from '../helpers/payer.ts';
import { killMain, lookAfter } from '../helpers/processes.ts';
import { price, sell } from '../helpers/seller.ts';
import { startUpstream } from '../helpers/upstream.ts';

const instances: Instance[] = [];
afterAll(async () => {
  for (const instance of instances) await instance.stop();
});

it('credits that a killed process had reserved are given back by the next worker, and the same payment buys the answer, once', async () => {
  const { db, url: databaseUrl } = await openTestDatabase();
  const dataDirectory = lookAfter(await mkdtemp(join(tmpdir(), 'credence-crash-')));
  // A payment is for the gateway's URL, which outlives its processes.
  const ports = { api: await findFreePort(), gateway: await findFreePort() };
  const start = async () => {
    const instance = await startInstance({ dataDirectory, ports, env: { DATABASE_URL: databaseUrl } });
    instances.push(instance);
    return instance;
  };
  const upstream = await startUpstream(() => undefined);
  const killed = await start();
  const sold = await sell(killed, upstream.url, 'slow', { hosted: true });
  const buyer = await newBuyer(db, { credits: price });
  await registerCreditKey(testContext(db), buyer.environmentId, { jwk: { ...buyer.jwk }, name: 'a test' });
  const account = {
    environmentId: buyer.environmentId,
    kind: 'available',
    currency: 'USDC.sandbox',
  } as const;

  const payment = await buyer.pay(`${sold.url}/paid`, {
    claims: { exp: Math.floor(Date.now() / 1000) + 600 },
  });
  const cut = sendPaid(`${sold.url}/paid`, payment).catch(() => 'cut');
  await expect.poll(() => upstream.requests.length).toBe(1);
  await killMain(killed);
  expect(await cut).toBe('cut');
  expect(await balanceOf(db, account)).toEqual({ balance: price, held: price });

  // The lease of the process that is gone runs out here rather than in half a minute.
  const ended = "UPDATE payments SET lease_until = now() WHERE state = 'forwarding' RETURNING id";
  expect(await db.query(ended)).toHaveLength(1);
  await start();
  await expect.poll(() => balanceOf(db, account), { timeout: 10_000 }).toEqual({ balance: price, held: 0n });
  expect(await db.query("SELECT 1 FROM audit_events WHERE action = 'payment.upstream_failed'")).toHaveLength(
    1,
  );

  upstream.behave((_request, response) => response.end('the answer'));
  for (let time = 0; time < 2; time += 1)
    expect(await sendPaid(`${sold.url}/paid`, payment)).toMatchObject({ status: 200, text: 'the answer' });
  expect(upstream.requests, 'the attempt that was cut, and one more').toHaveLength(2);
  expect(await balanceOf(db, account)).toEqual({ balance: 0n, held: 0n });
  expect(await findDiscrepancies(db)).toEqual([]);
  await upstream.close();
}, 60_000);
