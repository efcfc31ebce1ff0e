import { assert } from '../../kernel/assert.ts';
import { keccak256 } from './keccak.ts';
import { loadSignatureBackend, type SignatureBackend } from './signature-backend.ts';

const chosen = await loadSignatureBackend();

/** Which build of libsecp256k1 checks signatures in this process; named in the log at start. */
export const signatureBackend: SignatureBackend['name'] = chosen.name;

const order = Buffer.from('fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141', 'hex');
/** Half the order: EIP-2 makes the larger `s` of each signature invalid. */
const halfOrder = Buffer.from('7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0', 'hex');
const zero = Buffer.alloc(32);

/**
 * The address (20 bytes) that signed a digest with r, s and v (65 bytes), or nothing. As narrow as the token contract's
 * own `ECRecover`: v is 27 or 28, s in the lower half of the order, and neither r nor s is zero or too large.
 */
export function recoverAddress(
  digest: Buffer,
  signature: Buffer,
  backend: SignatureBackend = chosen,
): Buffer | undefined {
  assert(digest.length === 32 && signature.length === 65, 'a digest has 32 bytes and a signature 65');
  const v = signature[64];
  if (v !== 27 && v !== 28) return undefined;
  if (!isScalar(signature, 0) || !isScalar(signature, 32)) return undefined;
  if (signature.compare(halfOrder, 0, 32, 32, 64) > 0) return undefined;
  const publicKey = backend.recoverPublicKey(digest, signature.subarray(0, 64), v === 27 ? 0 : 1);
  // Without the first byte, which says that the point is uncompressed.
  return publicKey && keccak256(publicKey.subarray(1)).subarray(12);
}

/** Signs a digest of 32 bytes with a private key of 32 bytes. */
export function signDigest(
  digest: Buffer,
  privateKey: Buffer,
  backend: SignatureBackend = chosen,
): { r: Buffer; s: Buffer; yParity: number } {
  assert(digest.length === 32 && privateKey.length === 32, 'a digest has 32 bytes, and so has a private key');
  const { compact, recoveryId } = backend.sign(digest, privateKey);
  const bytes = Buffer.from(compact);
  // Bit 1 would say that the point's x was above the order: it has never been seen, and no chain takes it.
  assert(recoveryId < 2, "the point's x is below the order");
  return { r: bytes.subarray(0, 32), s: bytes.subarray(32, 64), yParity: recoveryId };
}

/** Whether the 32 bytes from `start` are a number from 1 to below the order. */
function isScalar(signature: Buffer, start: number): boolean {
  const end = start + 32;
  return signature.compare(zero, 0, 32, start, end) > 0 && signature.compare(order, 0, 32, start, end) < 0;
}
