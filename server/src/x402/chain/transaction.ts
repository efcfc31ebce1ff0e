import type { Address, Hex } from 'viem';
import { keccak256 } from '../exact/keccak.ts';
import { signDigest } from '../exact/secp256k1.ts';
import type { SignatureBackend } from '../exact/signature-backend.ts';

/** A transaction of EIP-1559 that calls a contract and sends no ether. */
export interface ContractCall {
  chainId: number;
  nonce: bigint;
  maxPriorityFeePerGas: bigint;
  maxFeePerGas: bigint;
  gas: bigint;
  to: Address;
  data: Hex;
}

export interface SignedCall {
  /** As it is sent. */
  raw: Hex;
  hash: Hex;
}

/** The first byte of such a transaction (EIP-2718). */
const transactionType = Buffer.of(0x02);

/** Signs a call (EIP-1559): some 96 KB for a full batch, so it is written out here rather than by a general encoder. */
export function signCall(call: ContractCall, privateKey: Buffer, backend?: SignatureBackend): SignedCall {
  const fields = [
    number(BigInt(call.chainId)),
    number(call.nonce),
    number(call.maxPriorityFeePerGas),
    number(call.maxFeePerGas),
    number(call.gas),
    bytes(Buffer.from(call.to.slice(2), 'hex')),
    number(0n),
    bytes(Buffer.from(call.data.slice(2), 'hex')),
    // No access list.
    list([]),
  ];
  const digest = keccak256(Buffer.concat([transactionType, list(fields)]));
  const { r, s, yParity } = signDigest(digest, privateKey, backend);
  const signature = [number(BigInt(yParity)), bytes(withoutZeros(r)), bytes(withoutZeros(s))];
  const raw = Buffer.concat([transactionType, list([...fields, ...signature])]);
  return { raw: `0x${raw.toString('hex')}`, hash: `0x${keccak256(raw).toString('hex')}` };
}

/** RLP of a number: its bytes without leading zeros, so that zero is empty (Yellow Paper, appendix B). */
function number(value: bigint): Buffer {
  const hex = value === 0n ? '' : value.toString(16);
  return bytes(Buffer.from(hex.length % 2 === 1 ? `0${hex}` : hex, 'hex'));
}

function bytes(value: Buffer): Buffer {
  const [first] = value;
  if (value.length === 1 && first !== undefined && first < 0x80) return value;
  return Buffer.concat([lengthPrefix(value.length, 0x80), value]);
}

function list(items: readonly Buffer[]): Buffer {
  const body = Buffer.concat(items);
  return Buffer.concat([lengthPrefix(body.length, 0xc0), body]);
}

/** Up to 55 bytes the length is in the prefix itself; beyond, the prefix says how long the length is. */
function lengthPrefix(length: number, base: 0x80 | 0xc0): Buffer {
  if (length <= 55) return Buffer.of(base + length);
  const hex = length.toString(16);
  const written = Buffer.from(hex.length % 2 === 1 ? `0${hex}` : hex, 'hex');
  return Buffer.concat([Buffer.of(base + 55 + written.length), written]);
}

function withoutZeros(value: Buffer): Buffer {
  let start = 0;
  while (value[start] === 0) start += 1;
  return value.subarray(start);
}
