import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getAddress, toHex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, expect, it } from 'vitest';
import { decodePaymentRequired, encodePayment, networks, transferTypedData } from '../../src/x402/index.ts';
import { openTestDatabase } from '../helpers/database.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { killMain, lookAfter } from '../helpers/processes.ts';
import { startUpstream } from '../helpers/upstream.ts';
import { openChain } from './payment-parts.ts';

const instances: Instance[] = [];
afterAll(async () => {
  for (const instance of instances) await instance.stop();
});

async function post(url: string, body: unknown): Promise<{ id: string; url: string }> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  expect(response.status).toBeLessThan(300);
  return (await response.json()) as { id: string; url: string };
}

/** Signs what a 402 asks for with the faucet's key, as any x402 client does. */
async function signFor(url: string, faucetKey: `0x${string}`): Promise<string> {
  const unpaid = await fetch(url, { headers: { 'x-agent-id': 'agent' } });
  const required = decodePaymentRequired(unpaid.headers.get('payment-required') ?? '');
  const [accepted] = required.accepts;
  if (!accepted) throw new Error('nothing is offered');
  const account = privateKeyToAccount(faucetKey);
  const authorization = {
    from: account.address,
    to: getAddress(accepted.payTo),
    value: BigInt(accepted.amount),
    validAfter: 0n,
    validBefore: BigInt(Math.floor(Date.now() / 1000) + 600),
    nonce: toHex(crypto.getRandomValues(new Uint8Array(32))),
  };
  const signature = await account.signTypedData(transferTypedData(networks.sandbox, authorization));
  const payment = { network: accepted.network, asset: getAddress(accepted.asset), authorization, signature };
  return encodePayment({ required, accepted, payment });
}

it('a payment whose process is killed while its upstream works is not charged, and buys the answer after the next start, once', async () => {
  const { db, url: databaseUrl } = await openTestDatabase();
  const dataDirectory = lookAfter(await mkdtemp(join(tmpdir(), 'credence-crash-')));
  const start = async () => {
    const instance = await startInstance({ dataDirectory, env: { DATABASE_URL: databaseUrl } });
    instances.push(instance);
    return instance;
  };
  const upstream = await startUpstream(() => undefined);
  const killed = await start();
  const payTo = privateKeyToAccount(`0x${'99'.repeat(32)}`).address;
  const server = await post(`${killed.info.api_url}/v1/servers`, {
    name: 'Slow',
    base_url: upstream.url,
    pay_to: payTo,
  });
  await post(`${killed.info.api_url}/v1/servers/${server.id}/endpoints`, {
    public_path: '/slow',
    price: '$0.01',
  });
  await post(`${killed.info.api_url}/v1/servers/${server.id}/publish`, {});
  const payment = await signFor(`${server.url}/slow`, killed.info.faucet_key);
  const pay = (at: Instance) =>
    fetch(`${at.info.gateway_url}/api/slow/slow`, {
      headers: { 'x-agent-id': 'agent', 'payment-signature': payment },
    });

  const cut = pay(killed).then(
    () => 'answered',
    () => 'cut',
  );
  await expect.poll(() => upstream.requests.length).toBe(1);
  await killMain(killed);
  expect(await cut).toBe('cut');

  // The lease of the process that is gone runs out here rather than in half a minute.
  expect(
    await db.query("UPDATE payments SET lease_until = now() WHERE state = 'forwarding' RETURNING id"),
  ).toHaveLength(1);
  upstream.behave((_request, response) => response.end('the answer'));
  const next = await start();
  const chain = openChain(next.info.rpc_url);
  expect(await chain.balanceOf(payTo), 'not charged for nothing').toBe(0n);

  const answers = [await pay(next), await pay(next)];
  expect(answers.map((answer) => answer.status)).toEqual([200, 200]);
  for (const answer of answers) expect(await answer.text()).toBe('the answer');
  expect(upstream.requests, 'the attempt that was cut, and one more').toHaveLength(2);
  expect(await chain.balanceOf(payTo)).toBe(10_000n);
  await upstream.close();
});
