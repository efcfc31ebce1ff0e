import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { AppError } from '../../kernel/errors.ts';
import type { AgentPublicJwk } from './credential.ts';

const rsaBitsMin = 2048;
const rsaBitsMax = 4096;

/**
 * Reads an agent's public key, a JWK or PEM (SPKI), down to what defines it: RSA of 2048 to 4096 bits, EC on P-256, or Ed25519.
 * Throws `invalid_request` for anything else, and first of all for a private or symmetric key, which nobody should send.
 */
export function parsePublicKey(sent: string | Readonly<Record<string, unknown>>): AgentPublicJwk {
  if (typeof sent === 'string' ? sent.includes('PRIVATE KEY') : 'd' in sent || 'k' in sent)
    throw refusal('is a private key: keep that to yourself, replace it, and send the public half');
  const key = readKey(sent);
  if (!key || key.type !== 'public') throw refusal('must be a JWK, or SPKI in PEM');
  const { kty, crv, x, y, n, e } = key.export({ format: 'jwk' });
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  if (kty === 'EC' && crv === 'P-256' && x !== undefined && y !== undefined) return { kty, crv, x, y };
  if (kty === 'OKP' && crv === 'Ed25519' && x !== undefined) return { kty, crv, x };
  if (kty === 'RSA' && n !== undefined && e !== undefined && bits >= rsaBitsMin && bits <= rsaBitsMax)
    return { kty, n, e };
  throw refusal('must be RSA of 2048 to 4096 bits, EC on P-256, or Ed25519');
}

/** RFC 7638: SHA-256 over the members that define the key, in lexicographic order. `jwk` has those and no others. */
export function thumbprintOf(jwk: Readonly<Record<string, unknown>>): string {
  const members = Object.entries(jwk).toSorted(([left], [right]) => (left < right ? -1 : 1));
  return createHash('sha256')
    .update(JSON.stringify(Object.fromEntries(members)))
    .digest('base64url');
}

function readKey(sent: string | Readonly<Record<string, unknown>>): KeyObject | undefined {
  try {
    return createPublicKey(typeof sent === 'string' ? sent : { key: { ...sent }, format: 'jwk' });
  } catch {
    return undefined;
  }
}

function refusal(message: string): AppError {
  return new AppError('invalid_request', `public_key ${message}`, {
    errors: [{ field: 'public_key', message }],
  });
}
