import { createKeccak } from 'hash-wasm';

// Made once, while modules load, so that no payment waits for a compilation.
const hasher = await createKeccak(256);

/** Keccak-256 as Ethereum has it (not SHA3-256). Each result is a buffer of its own. */
export function keccak256(data: Uint8Array): Buffer {
  const digest = hasher.init().update(data).digest('binary');
  return Buffer.from(digest.buffer, digest.byteOffset, digest.byteLength);
}
