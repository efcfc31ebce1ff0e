import * as fc from 'fast-check';
import { getAddress, type Hex, numberToHex } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { describe, expect, it } from 'vitest';
import {
  type Authorization,
  type ExactPayment,
  findTermsFault,
  isSignedByPayer,
  type Terms,
  transferTypedData,
} from './exact.ts';
import { networks } from './networks.ts';

const network = networks.sandbox;
const payer = privateKeyToAccount(generatePrivateKey());
const payee = privateKeyToAccount(generatePrivateKey()).address;
const other = privateKeyToAccount(generatePrivateKey());
const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

const authorization: Authorization = {
  from: payer.address,
  to: payee,
  value: 10_000n,
  validAfter: 1_000n,
  validBefore: 2_000n,
  nonce: `0x${'5a'.repeat(32)}`,
};

async function pay(parts: Partial<Authorization> = {}, signer = payer): Promise<ExactPayment> {
  const signed = { ...authorization, ...parts };
  const signature = await signer.signTypedData(transferTypedData(network, signed));
  return { network: network.id, asset: network.asset.address, authorization: signed, signature };
}

const uint256 = fc.bigInt(0n, 2n ** 256n - 1n);
const bytes = (length: number) =>
  fc
    .uint8Array({ minLength: length, maxLength: length })
    .map((array): Hex => `0x${Buffer.from(array).toString('hex')}`);
const address = bytes(20).map((text) => getAddress(text));
const anyAuthorization = fc.record({
  to: address,
  value: uint256,
  validAfter: uint256,
  validBefore: uint256,
  nonce: bytes(32),
});

describe('the signature of a payment', () => {
  it('is good over any authorisation that the payer signed', async () => {
    await fc.assert(
      fc.asyncProperty(anyAuthorization, async (parts) => {
        expect(await isSignedByPayer(network, await pay(parts))).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  it('is bad once any part of what was signed has changed', async () => {
    const change = fc.oneof(
      ...(['from', 'to'] as const).map((name) => address.map((value) => ({ [name]: value }))),
      ...(['value', 'validAfter', 'validBefore'] as const).map((name) =>
        uint256.map((value) => ({ [name]: value })),
      ),
      bytes(32).map((nonce) => ({ nonce })),
    );
    const payment = await pay();
    await fc.assert(
      fc.asyncProperty(change, async (parts) => {
        const changed = { ...authorization, ...parts };
        fc.pre(
          Object.entries(parts).some(([name, value]) => authorization[name as keyof Authorization] !== value),
        );
        expect(await isSignedByPayer(network, { ...payment, authorization: changed })).toBe(false);
      }),
      { numRuns: 60 },
    );
  });

  it('is bad with any bit of it flipped', async () => {
    const payment = await pay();
    await fc.assert(
      fc.asyncProperty(fc.nat(65 * 8 - 1), async (bit) => {
        const raw = Buffer.from(payment.signature.slice(2), 'hex');
        raw[bit >> 3] = (raw[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(await isSignedByPayer(network, { ...payment, signature: `0x${raw.toString('hex')}` })).toBe(
          false,
        );
      }),
      { numRuns: 60 },
    );
  });

  it('is bad when it is random', async () => {
    const payment = await pay();
    await fc.assert(
      fc.asyncProperty(fc.oneof(bytes(65), bytes(64), bytes(66), bytes(0)), async (signature) => {
        expect(await isSignedByPayer(network, { ...payment, signature })).toBe(false);
      }),
      { numRuns: 60 },
    );
  });

  it('is refused in its second form, with the larger s: it recovers the same signer', async () => {
    const payment = await pay();
    const s = order - BigInt(`0x${payment.signature.slice(66, 130)}`);
    const v = payment.signature.endsWith('1b') ? '1c' : '1b';
    const twin: Hex = `0x${payment.signature.slice(2, 66)}${numberToHex(s, { size: 32 }).slice(2)}${v}`;
    expect(await isSignedByPayer(network, { ...payment, signature: twin })).toBe(false);
  });

  it.each<[string, (signature: Hex) => Hex]>([
    ['longer, as a contract wallet sends it', (signature) => `${signature}01`],
    ['of 64 bytes (EIP-2098)', (signature) => `0x${signature.slice(2, 130)}`],
    ['of zeros', () => `0x${'00'.repeat(64)}1b`],
    ['with r of the order and above', (signature) => `0x${'ff'.repeat(32)}${signature.slice(66)}`],
    ['with v of another chain (EIP-155)', (signature) => `0x${signature.slice(2, 130)}25`],
    ['empty', () => '0x'],
  ])('is refused %s', async (_form, change) => {
    const payment = await pay();
    expect(await isSignedByPayer(network, { ...payment, signature: change(payment.signature) })).toBe(false);
  });

  it('is refused of another key, and for another network', async () => {
    expect(await isSignedByPayer(network, await pay({}, other))).toBe(false);
    expect(await isSignedByPayer(networks.production, await pay())).toBe(false);
  });
});

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
    [999n, 'invalid_exact_evm_payload_authorization_valid_after'],
    [1_000n, undefined],
    [1_940n, undefined],
    [1_941n, 'invalid_exact_evm_payload_authorization_valid_before'],
    [5_000n, 'invalid_exact_evm_payload_authorization_valid_before'],
  ])('at second %d, with 60 seconds of work ahead, find %s', (now, expected) => {
    expect(fault({}, {}, now)).toBe(expected);
  });
});
