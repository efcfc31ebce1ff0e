import { describe, expect, it } from 'vitest';
import { getAddress, verifyTypedData } from 'viem';
import { privateKeyToAddress } from 'viem/accounts';
import { decodePayment, networks, transferTypedData } from '../../server/src/x402/index.ts';
import { signPayments } from './payments.ts';

const keys = [`0x${'11'.repeat(32)}`, `0x${'22'.repeat(32)}`] as const;
const asset = networks.sandbox.asset.address;
const payTo = getAddress(`0x${'ee'.repeat(20)}`);
const accepted = { scheme: 'exact', network: networks.sandbox.id, amount: '10000', asset, payTo } as const;

describe('signPayments', () => {
  const headers = [...signPayments({ count: 3, keys, envelope: { x402Version: 2, accepted } }, 1_000_000)];
  const payments = headers.map(decodePayment);

  it('signs what the token checks', async () => {
    for (const { authorization, signature } of payments) {
      const signed = transferTypedData(networks.sandbox, authorization);
      expect(await verifyTypedData({ address: authorization.from, ...signed, signature })).toBe(true);
      expect(authorization).toMatchObject({ to: payTo, value: 10_000n });
    }
  });

  it('lets payers take turns, and uses a nonce once', () => {
    const payers = keys.map(privateKeyToAddress);
    expect(payments.map(({ authorization }) => authorization.from)).toEqual([...payers, payers[0]]);
    expect(new Set(payments.map(({ authorization }) => authorization.nonce)).size).toBe(3);
  });
});
