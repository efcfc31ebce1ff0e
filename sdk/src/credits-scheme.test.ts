import { generateKeyPairSync } from 'node:crypto';
import { ExactEvmScheme } from '@x402/evm';
import { decodePaymentResponseHeader, wrapFetchWithPaymentFromConfig } from '@x402/fetch';
import { privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Instance, startInstance } from '../../server/test/helpers/instance.ts';
import { network, openChain } from '../../server/test/helpers/payer.ts';
import { callApi, price, sell, type Sold } from '../../server/test/helpers/seller.ts';
import { startUpstream, type Upstream } from '../../server/test/helpers/upstream.ts';
import { creditsScheme } from './credits-scheme.ts';

const curves = {
  ES256: { name: 'ECDSA', namedCurve: 'P-256' },
  EdDSA: { name: 'Ed25519' },
} as const;

describe('the stock x402 client', { timeout: 30_000 }, () => {
  let instance: Instance;
  let upstream: Upstream;
  let sold: Sold;

  beforeAll(async () => {
    instance = await startInstance();
    upstream = await startUpstream((_, response) => response.end('the answer'));
    sold = await sell(instance, upstream.url, 'hosted', { hosted: true });
  }, 60_000);
  afterAll(async () => {
    await upstream?.close();
    await instance?.stop();
  }, 60_000);

  async function newKey(algorithm: keyof typeof curves, extractable = true) {
    const pair = await crypto.subtle.generateKey(curves[algorithm], extractable, ['sign', 'verify']);
    if (!('publicKey' in pair)) throw new Error('no pair of keys');
    const jwk = await crypto.subtle.exportKey('jwk', pair.publicKey);
    const registered = await callApi(instance, '/v1/wallet/credit-keys', { body: { jwk } });
    expect(registered.status).toBe(201);
    return { key: pair.privateKey, kid: (registered.json() as { kid: string }).kid };
  }

  const buy = async (schemes: Parameters<typeof wrapFetchWithPaymentFromConfig>[1]['schemes']) => {
    const payingFetch = wrapFetchWithPaymentFromConfig(fetch, { schemes });
    const response = await payingFetch(`${sold.url}/paid`, { headers: { 'X-Agent-ID': 'stock' } });
    expect([response.status, await response.text()]).toEqual([200, 'the answer']);
    return decodePaymentResponseHeader(response.headers.get('PAYMENT-RESPONSE') ?? '');
  };
  const onChain = () => ({
    network: network as 'eip155:84532',
    client: new ExactEvmScheme(privateKeyToAccount(instance.info.faucet_key)),
  });

  it.each([
    ['a JWK of P-256', 'ES256', (key: CryptoKey) => crypto.subtle.exportKey('jwk', key)],
    ['a JWK of Ed25519', 'EdDSA', (key: CryptoKey) => crypto.subtle.exportKey('jwk', key)],
    ['a key of Web Crypto', 'ES256', async (key: CryptoKey) => key],
  ] as const)('pays with credits by the scheme, signing with %s', async (_, algorithm, form) => {
    const { key } = await newKey(algorithm);
    const payer = instance.info.environment_id;
    const before = await openChain(instance).balanceOf(sold.payTo);
    const scheme = creditsScheme({ key: await form(key), payer });
    expect(await buy([{ network: 'credence:credits', client: scheme }])).toMatchObject({
      success: true,
      network: 'credence:credits',
      payer,
    });
    expect(await openChain(instance).balanceOf(sold.payTo)).toBe(before);
  });

  it('pays with a key that nobody can export, by the name that it was registered under', async () => {
    const { key, kid } = await newKey('EdDSA', false);
    const client = creditsScheme({ key, kid, payer: instance.info.environment_id });
    expect(await buy([{ network: 'credence:credits', client }])).toMatchObject({ success: true });
  });

  it('says which keys there are, to whoever brings another kind', async () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    const client = creditsScheme({ key: privateKey as unknown as CryptoKey, payer: 'env_x' });
    await expect(buy([{ network: 'credence:credits', client }])).rejects.toThrow('a JWK or a CryptoKey');
  });

  it('pays on the chain as ever without the scheme, and where it has both, as the offer’s order says', async () => {
    const { key } = await newKey('ES256');
    const client = creditsScheme({ key, payer: instance.info.environment_id });
    for (const schemes of [[onChain()], [{ network: 'credence:credits' as const, client }, onChain()]]) {
      const before = await openChain(instance).balanceOf(sold.payTo);
      expect(await buy(schemes)).toMatchObject({ success: true, network });
      expect(await openChain(instance).balanceOf(sold.payTo)).toBe(before + price);
    }
  });

  it('holds credits to its own cap on what a call may cost', async () => {
    const { key } = await newKey('ES256');
    const client = creditsScheme({ key, payer: instance.info.environment_id });
    const payingFetch = wrapFetchWithPaymentFromConfig(fetch, {
      schemes: [{ network: 'credence:credits', client }],
      spendControls: { maxAmountPerPayment: '$0.009' },
    });
    await expect(payingFetch(`${sold.url}/paid`, { headers: { 'X-Agent-ID': 'stock' } })).rejects.toThrow(
      'spendControls',
    );
  });
});
