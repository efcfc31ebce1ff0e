import { ExactEvmScheme } from '@x402/evm';
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from '@x402/fetch';
import type { Hex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { decode, network, openChain } from '../helpers/payer.ts';

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
});

async function offerOf(url: string): Promise<{ accepts: { payTo: Hex }[] }> {
  const response = await fetch(url, { headers: { 'X-Agent-ID': 'stock-client' } });
  return decode(response.headers.get('payment-required'));
}
