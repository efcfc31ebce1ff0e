import type { Address, Hex } from 'viem';
import { assert } from '../../kernel/assert.ts';
import { writeHex } from './hex.ts';
import { keccak256 } from './keccak.ts';
import type { Network } from '../networks.ts';

/** What a payer signs: EIP-3009 `TransferWithAuthorization`. Times are Unix seconds. */
export interface Authorization {
  from: Address;
  to: Address;
  value: bigint;
  validAfter: bigint;
  validBefore: bigint;
  /** 32 random bytes, single use for this payer on this token. */
  nonce: Hex;
}

const word = 32;
const addressBytes = 20;
const maxUint64 = 2n ** 64n - 1n;
const maxUint256 = 2n ** 256n - 1n;

const domainType = hashText(
  'EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)',
);
const transferType = hashText(
  'TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)',
);

/** `encodeData` of the struct (EIP-712): its type, then one word for each of the six fields. */
const struct = Buffer.alloc(7 * word);
const structView = new DataView(struct.buffer, struct.byteOffset, struct.length);
struct.set(transferType);
/** 0x1901, the domain's separator, the struct's hash. */
const envelope = Buffer.alloc(2 + 2 * word);
envelope.writeUInt16BE(0x1901);

/** By the object: a network is a constant, and is never changed. */
const separators = new WeakMap<Network, Buffer>();

/**
 * The EIP-712 digest that a payer signs for `transferWithAuthorization` (EIP-3009). Nothing where a field isn't what its
 * type says, so that no two texts have one digest. Its buffers are shared by all calls: from the first byte written to the
 * last one hashed, nothing else gets to run.
 */
export function transferDigest(network: Network, authorization: Authorization): Buffer | undefined {
  const { from, to, value, validAfter, validBefore, nonce } = authorization;
  const written =
    writeAddress(1, from) &&
    writeAddress(2, to) &&
    writeUint256(3, value) &&
    writeUint256(4, validAfter) &&
    writeUint256(5, validBefore) &&
    writeHex(struct, 6 * word, nonce, word);
  if (!written) return undefined;
  envelope.set(domainSeparator(network), 2);
  envelope.set(keccak256(struct), 2 + word);
  return keccak256(envelope);
}

function domainSeparator(network: Network): Buffer {
  const known = separators.get(network);
  if (known) return known;
  const { name, version, address } = network.asset;
  const data = Buffer.alloc(5 * word);
  data.set(domainType);
  data.set(hashText(name), word);
  data.set(hashText(version), 2 * word);
  data.writeBigUInt64BE(BigInt(network.chainId), 4 * word - 8);
  assert(writeHex(data, 5 * word - addressBytes, address, addressBytes), 'a token has an address');
  const separator = keccak256(data);
  separators.set(network, separator);
  return separator;
}

/** The twelve bytes before an address are zero from the start, and stay so. */
function writeAddress(index: number, address: string): boolean {
  return writeHex(struct, (index + 1) * word - addressBytes, address, addressBytes);
}

function writeUint256(index: number, value: bigint): boolean {
  if (value < 0n || value > maxUint256) return false;
  const offset = index * word;
  if (value <= maxUint64) {
    // Times always, and any amount that is paid for a call.
    struct.fill(0, offset, offset + 24);
    structView.setBigUint64(offset + 24, value);
    return true;
  }
  for (let part = 0; part < 4; part++) {
    // setBigUint64 keeps the lowest 64 bits of what it is given.
    structView.setBigUint64(offset + 8 * part, value >> BigInt(64 * (3 - part)));
  }
  return true;
}

function hashText(text: string): Buffer {
  return keccak256(Buffer.from(text));
}
