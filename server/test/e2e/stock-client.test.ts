import { randomUUID } from 'node:crypto';
import { wrapAxiosWithPaymentFromConfig } from '@x402/axios';
import { ExactEvmScheme } from '@x402/evm';
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from '@x402/fetch';
import { create } from 'axios';
import type { Hex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { decode, network, openChain } from '../helpers/payer.ts';
import { send } from '../helpers/request.ts';
import { callApi } from '../helpers/seller.ts';
import { startUpstream } from '../helpers/upstream.ts';

describe('the stock x402 client', { timeout: 20_000 }, () => {
  let instance: Instance;

  beforeAll(async () => {
    instance = await startInstance();
  }, 60_000);
  afterAll(async () => {
    await instance?.stop();
  }, 60_000);

  it('pays demo_url unmodified: the price moves once, and the chain knows the transaction of PAYMENT-RESPONSE', async () => {
    const { info } = instance;
    const chain = openChain(instance);
    const account = privateKeyToAccount(info.faucet_key);
    const terms = await offerOf(info.demo_url);
    const payTo = terms.accepts[0]?.payTo ?? '0x';
    const before = [await chain.balanceOf(account.address), await chain.balanceOf(payTo)] as const;

    const payingFetch = wrapFetchWithPaymentFromConfig(fetch, {
      schemes: [{ network, client: new ExactEvmScheme(account) }],
    });
    const response = await payingFetch(`${info.demo_url}?place=quito&date=2026-06-21`, {
      headers: { 'X-Agent-ID': 'stock-client' },
    });

    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ place: 'quito', date: '2026-06-21' });
    expect(response.headers.get('cache-control')).toBe('private, no-store');
    const settlement = decodePaymentResponseHeader(response.headers.get('PAYMENT-RESPONSE') ?? '');
    expect(settlement).toMatchObject({ success: true, network, payer: account.address });
    const receipt = await chain.client.getTransactionReceipt({ hash: settlement.transaction as Hex });
    expect(receipt.status).toBe('success');
    expect(await chain.balanceOf(account.address)).toBe(before[0] - 10_000n);
    expect(await chain.balanceOf(payTo)).toBe(before[1] + 10_000n);
  });

  it('pays demo_url unmodified behind axios as well, with the older core that it brings', async () => {
    const account = privateKeyToAccount(instance.info.faucet_key);
    const chain = openChain(instance);
    const before = await chain.balanceOf(account.address);
    const paying = wrapAxiosWithPaymentFromConfig(create(), {
      schemes: [{ network, client: new ExactEvmScheme(account) }],
    });
    const response = await paying.get(`${instance.info.demo_url}?place=quito&date=2026-06-21`, {
      headers: { 'X-Agent-ID': 'stock-axios' },
    });

    expect(response.status).toBe(200);
    expect(response.data).toMatchObject({ place: 'quito', date: '2026-06-21' });
    const settlement = decodePaymentResponseHeader(String(response.headers['payment-response']));
    expect(settlement).toMatchObject({ success: true, network, payer: account.address });
    expect(await chain.balanceOf(account.address)).toBe(before - 10_000n);
  });

  it('finds terms for exactly the price in the 402, for v2 in the header and for v1 in the body, and no cache may keep them', async () => {
    const response = await fetch(instance.info.demo_url, { headers: { 'x-agent-id': 'stock-client' } });
    expect(response.status).toBe(402);
    expect(response.headers.get('cache-control')).toBe('private, no-store');
    const terms = decode(response.headers.get('payment-required'));
    expect(terms).toMatchObject({
      x402Version: 2,
      resource: { url: instance.info.demo_url },
      accepts: [{ scheme: 'exact', network, amount: '10000', maxTimeoutSeconds: 120 }],
    });
    expect(await response.json()).toMatchObject({
      x402Version: 1,
      accepts: [{ network: 'base-sepolia', maxAmountRequired: '10000', resource: instance.info.demo_url }],
      code: 'payment_required',
      title: 'Payment Required',
    });
  });

  it.each([
    ['a description of 5,000 characters of three bytes', '天', '/paid'],
    ['one of characters that JSON writes in six', '\u0001', '/paid'],
    ['the longest path that is called', 'a', `/paid/${'x'.repeat(7_900)}`],
    ['a long path beside a long description', '天', `/paid/${'x'.repeat(1_000)}`],
  ])('pays for %s: the 402 has less than 6 KiB in its header', async (_, character, path) => {
    const upstream = await startUpstream((_request, response) => response.end('bought'));
    const slug = `long-${randomUUID()}`;
    const post = (to: string, body: unknown) =>
      callApi(instance, to, { body, credential: instance.info.api_key });
    const server = await post('/v1/servers', { name: slug, slug, base_url: upstream.url });
    const endpoint = { public_path: '/paid', price: '$0.01', description: character.repeat(5_000) };
    expect((await post(`/v1/servers/${server.json().id}/endpoints`, endpoint)).status).toBe(201);
    await post(`/v1/servers/${server.json().id}/publish`, {});
    const url = `${instance.info.gateway_url}/api/${slug}${path}`;

    const unpaid = await send(url, { headers: { 'x-agent-id': 'stock-client' } });
    expect(unpaid.headers['payment-required']?.length).toBeLessThan(6 * 1024);
    expect(unpaid.json().accepts[0].description, 'whole in the body').toBe(endpoint.description);
    const payingFetch = wrapFetchWithPaymentFromConfig(fetch, {
      schemes: [{ network, client: new ExactEvmScheme(privateKeyToAccount(instance.info.faucet_key)) }],
    });
    const response = await payingFetch(url, { headers: { 'X-Agent-ID': 'stock-client' } });
    expect([response.status, await response.text()]).toEqual([200, 'bought']);
    await upstream.close();
  });
});

async function offerOf(url: string): Promise<{ accepts: { payTo: Hex }[] }> {
  const response = await fetch(url, { headers: { 'X-Agent-ID': 'stock-client' } });
  return decode(response.headers.get('payment-required'));
}
