import * as fc from 'fast-check';
import { getAddress, type Hex } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { type Authorization, type ExactPayment, transferTypedData } from '../exact/exact.ts';
import { type Network, networks } from '../networks.ts';

/** The order of secp256k1. */
export const order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
export const halfOrder = order / 2n;

/** A payment and the network that it is checked for. */
export interface Presented {
  network: Network;
  payment: Pick<ExactPayment, 'authorization' | 'signature'>;
}

export const payers = Array.from({ length: 8 }, (_, index) =>
  privateKeyToAccount(`0x${(index + 1).toString(16).padStart(64, 'c')}`),
);

export const anyWord = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(hexOf);
export const anyAddress = fc
  .uint8Array({ minLength: 20, maxLength: 20 })
  .map((bytes) => getAddress(hexOf(bytes)));
/** Small numbers, numbers round the edges of a machine word, and all others. */
export const anyUint256 = fc.oneof(
  fc.bigInt({ min: 0n, max: 10n ** 12n }),
  fc.bigInt({ min: 2n ** 64n - 2n, max: 2n ** 64n + 2n }),
  fc.bigInt({ min: 0n, max: 2n ** 256n - 1n }),
  fc.constant(2n ** 256n - 1n),
);

export const anyAuthorization: fc.Arbitrary<Authorization> = fc.record({
  from: anyAddress,
  to: anyAddress,
  value: anyUint256,
  validAfter: anyUint256,
  validBefore: anyUint256,
  nonce: anyWord,
});

export const anyNetwork: fc.Arbitrary<Network> = fc.oneof(
  fc.constantFrom(networks.sandbox, networks.production),
  fc
    .record({
      chainId: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      address: anyAddress,
      name: fc.string({ unit: 'grapheme' }),
      version: fc.string(),
    })
    .map(({ chainId, ...asset }): Network => ({
      id: `eip155:${chainId}` as const,
      chainId,
      asset: { ...asset, currency: 'USDC' },
    })),
);

/** Signs as a wallet does. */
export async function sign(
  network: Network,
  payer: (typeof payers)[number],
  authorization: Authorization,
): Promise<Presented> {
  const signed = { ...authorization, from: payer.address };
  const signature = await payer.signTypedData(transferTypedData(network, signed));
  return { network, payment: { authorization: signed, signature } };
}

/** One change to a payment that was signed properly, or none. */
export type Mutation = (presented: Presented) => Presented;

export const anyMutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.constant<Mutation>((presented) => presented),
  fc.integer({ min: 0, max: 65 * 8 - 1 }).map((bit) => withSignature((signature) => flipBit(signature, bit))),
  fc
    .oneof(fc.constantFrom(0, 1, 26, 27, 28, 29, 30, 31), fc.nat(255))
    .map((v) => withSignature((signature) => withV(signature, v))),
  fc.constantFrom(withSignature(highTwin), withSignature(shortForm)),
  fc.constantFrom('00', 'ff', '01'.repeat(32)).map((more) => withSignature((hex) => `${hex}${more}`)),
  fc.nat(64).map((bytes) => withSignature((signature) => signature.slice(0, 2 + 2 * bytes) as Hex)),
  fc
    .tuple(
      fc.constantFrom<'r' | 's'>('r', 's'),
      fc.constantFrom(0n, 1n, halfOrder, halfOrder + 1n, order - 1n, order, 2n ** 256n - 1n),
    )
    .map(([part, value]) => withSignature((signature) => withPart(signature, part, value))),
  fc
    .tuple(fc.constantFrom<keyof Authorization>('from', 'to', 'value', 'nonce'), anyAuthorization)
    .map(([field, other]) => withField(() => ({ [field]: other[field] }))),
  fc
    .constantFrom<'validAfter' | 'validBefore'>('validAfter', 'validBefore')
    .map((field) => withField((authorization) => ({ [field]: authorization[field] - 1n }))),
  fc.constantFrom<Mutation>(
    ({ payment }) => ({ payment, network: networks.production }),
    ({ payment, network }) => ({ payment, network: { ...network, id: 'eip155:1', chainId: 1 } }),
    ({ payment, network }) => ({
      payment,
      network: { ...network, asset: { ...network.asset, version: '1' } },
    }),
  ),
);

/** The same signature with the other `s` (EIP-2), which recovers the same key. */
export function highTwin(signature: Hex): Hex {
  const s = BigInt(`0x${signature.slice(66, 130)}`);
  const v = Number.parseInt(signature.slice(130), 16);
  return withV(withPart(signature, 's', order - s), v === 27 ? 28 : 27);
}

/** EIP-2098: 64 bytes, with the parity in the highest bit of `s`. */
export function shortForm(signature: Hex): Hex {
  const parity = signature.endsWith('1c') ? 1n << 255n : 0n;
  const s = BigInt(`0x${signature.slice(66, 130)}`) | parity;
  return `${signature.slice(0, 66) as Hex}${word(s)}`;
}

export function withV(signature: Hex, v: number): Hex {
  return `${signature.slice(0, 130) as Hex}${v.toString(16).padStart(2, '0')}`;
}

export function withPart(signature: Hex, part: 'r' | 's', value: bigint): Hex {
  const start = part === 'r' ? 2 : 66;
  return `${signature.slice(0, start) as Hex}${word(value)}${signature.slice(start + 64)}`;
}

function withField(change: (authorization: Authorization) => Partial<Authorization>): Mutation {
  return ({ network, payment }) => ({
    network,
    payment: { ...payment, authorization: { ...payment.authorization, ...change(payment.authorization) } },
  });
}

function withSignature(change: (signature: Hex) => Hex): Mutation {
  return ({ network, payment }) => ({
    network,
    payment: { ...payment, signature: change(payment.signature) },
  });
}

function flipBit(signature: Hex, bit: number): Hex {
  const bytes = Buffer.from(signature.slice(2), 'hex');
  bytes.writeUInt8(bytes.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
  return hexOf(bytes);
}

function word(value: bigint): string {
  return value.toString(16).padStart(64, '0');
}

function hexOf(bytes: Uint8Array): Hex {
  return `0x${Buffer.from(bytes).toString('hex')}`;
}
