import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { AppError } from '../kernel/errors.ts';
import type { CreditAlgorithm } from '../x402/index.ts';

/** The public half of a key that may sign for credits: P-256 for ES256 (RFC 7518), Ed25519 for EdDSA (RFC 8037). */
export type CreditJwk =
  | { kty: 'EC'; crv: 'P-256'; x: string; y: string }
  | { kty: 'OKP'; crv: 'Ed25519'; x: string };

/** What is known of a public key before anybody has used it. */
export interface PublicCreditKey {
  kid: string;
  algorithm: CreditAlgorithm;
  jwk: CreditJwk;
}

/**
 * Reads a JWK as its owner sent it, and keeps only what the key is: its algorithm and its name come from it. Throws
 * `invalid_request` where it is of another kind, is private, or is no point of its curve.
 */
export function readCreditKey(jwk: Readonly<Record<string, unknown>>): PublicCreditKey {
  if ('d' in jwk)
    throw new AppError(
      'invalid_request',
      'jwk is a private key: keep it to yourself, and send its public half',
    );
  const { kty, crv, x, y } = jwk;
  if (kty === 'EC' && crv === 'P-256' && typeof x === 'string' && typeof y === 'string')
    return checked('ES256', { kty, crv, x, y });
  if (kty === 'OKP' && crv === 'Ed25519' && typeof x === 'string') return checked('EdDSA', { kty, crv, x });
  throw new AppError('invalid_request', 'jwk must be a public key of P-256 or Ed25519');
}

export function openPublicKey(jwk: CreditJwk): KeyObject {
  return createPublicKey({ key: { ...jwk }, format: 'jwk' });
}

function checked(algorithm: CreditAlgorithm, jwk: CreditJwk): PublicCreditKey {
  let exported: { x?: string; y?: string };
  try {
    exported = openPublicKey(jwk).export({ format: 'jwk' });
  } catch {
    throw new AppError('invalid_request', 'jwk is not a point of its curve');
  }
  // One key has one name: x and y in their only spelling.
  const { x = '', y = '' } = exported;
  const canonical: CreditJwk = jwk.kty === 'EC' ? { ...jwk, x, y } : { ...jwk, x };
  return { kid: thumbprint(canonical), algorithm, jwk: canonical };
}

/** RFC 7638 section 3: SHA-256 over the required members in lexicographic order. */
function thumbprint(jwk: CreditJwk): string {
  const { crv, kty, x } = jwk;
  const members = jwk.kty === 'EC' ? { crv, kty, x, y: jwk.y } : { crv, kty, x };
  return createHash('sha256').update(JSON.stringify(members)).digest('base64url');
}
