import { type Hex } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { describe, expect, it } from 'vitest';
import { type Authorization, type ExactPayment, findTermsFault, type Terms } from '../exact/exact.ts';
import { networks } from '../networks.ts';

const network = networks.sandbox;
const payer = privateKeyToAccount(generatePrivateKey());
const payee = privateKeyToAccount(generatePrivateKey()).address;
const other = privateKeyToAccount(generatePrivateKey());

const authorization: Authorization = {
  from: payer.address,
  to: payee,
  value: 10_000n,
  validAfter: 1_000n,
  validBefore: 2_000n,
  nonce: `0x${'5a'.repeat(32)}`,
};

describe('the terms', () => {
  const terms: Terms = { network, amount: 10_000n, payTo: payee, maxTimeoutSeconds: 120 };
  const payment: ExactPayment = {
    network: network.id,
    asset: network.asset.address,
    authorization,
    signature: '0x',
  };
  const fault = (
    parts: Partial<ExactPayment>,
    signed: Partial<Authorization> = {},
    now = 1_500n,
    work = 60,
  ) =>
    findTermsFault(
      { ...payment, ...parts, authorization: { ...authorization, ...signed } },
      terms,
      now,
      work,
    );

  it.each<[string, Partial<ExactPayment>, Partial<Authorization>, string | undefined]>([
    ['what was asked', {}, {}, undefined],
    ['the asset in other letters', { asset: network.asset.address.toLowerCase() as Hex }, {}, undefined],
    ['another network', { network: 'eip155:8453' }, {}, 'invalid_network'],
    ['a network by its old name', { network: 'base-sepolia' }, {}, 'invalid_network'],
    ['another asset', { asset: networks.production.asset.address }, {}, 'invalid_payment_requirements'],
    ['another payee', {}, { to: other.address }, 'invalid_exact_evm_payload_recipient_mismatch'],
    ['one atom less', {}, { value: 9_999n }, 'invalid_exact_evm_payload_authorization_value_mismatch'],
    ['one atom more', {}, { value: 10_001n }, 'invalid_exact_evm_payload_authorization_value_mismatch'],
  ])('are met or not by %s', (_what, parts, signed, expected) => {
    expect(fault(parts, signed)).toBe(expected);
  });

  it.each([
    [1_004n, 'invalid_exact_evm_payload_authorization_valid_after'],
    [1_005n, undefined],
    [1_940n, undefined],
    [1_941n, 'invalid_exact_evm_payload_authorization_valid_before'],
    [5_000n, 'invalid_exact_evm_payload_authorization_valid_before'],
  ])('at second %d, with 60 seconds of work ahead, find %s', (now, expected) => {
    expect(fault({}, {}, now)).toBe(expected);
  });

  it.each([
    [1_500n + 3_600n, undefined],
    [1_501n + 3_600n, 'invalid_exact_evm_payload_authorization_valid_before'],
    [2n ** 63n, 'invalid_exact_evm_payload_authorization_valid_before'],
  ])(
    'are met by a payment until second %d or not, as its stored answer must outlive it: %s',
    (end, expected) => {
      expect(fault({}, { validBefore: end })).toBe(expected);
    },
  );
});
