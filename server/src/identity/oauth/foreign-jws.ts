import { createPublicKey, type KeyObject } from 'node:crypto';
import { limits } from '../../kernel/limits.ts';
import { isSoundRsa, thumbprintOf } from '../credentials/public-key.ts';
import { type Algorithm, algorithms } from '../signing-keys/signing-key.ts';
import { type Jws, type JwtClaims, parseJws, readClaims, verifyJws } from '../tokens/jws.ts';

/** A JWT that an agent signed, not yet believed: its assertion of itself, or its proof of possession. */
export interface ForeignJwt {
  jws: Jws;
  claims: JwtClaims;
}

/** Nothing where the text is too long to be one or can't be read. */
export function readForeignJwt(text: string): ForeignJwt | undefined {
  const jws = text.length <= limits.foreignJwsCharacters ? parseJws(text) : undefined;
  const claims = jws && readClaims(jws);
  return jws && claims ? { jws, claims } : undefined;
}

/** A public key with the one algorithm that it may be used with. */
export interface AgentKey {
  algorithm: Algorithm;
  publicKey: KeyObject;
  /** RFC 7638. */
  thumbprint: string;
}

/**
 * A key of a proof's header or of an agent's credential, if it is public and of the one kind that `alg` has; else what is wrong.
 * Nothing symmetric, and never `none`.
 */
export function readAgentKey(alg: unknown, jwk: unknown): AgentKey | string {
  const algorithm = algorithms.find((one) => one === alg);
  if (!algorithm) return `alg must be one of ${algorithms.join(', ')}`;
  if (typeof jwk !== 'object' || jwk === null) return 'jwk is missing';
  const members = jwk as Record<string, unknown>;
  if (['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'].some((name) => name in members))
    return 'jwk holds a private key, which nobody else may see: make another';
  const required = requiredMembers(algorithm, members);
  if (!required) return `jwk is no key for ${algorithm}`;
  const thumbprint = thumbprintOf(required);
  try {
    const publicKey = createPublicKey({ key: required, format: 'jwk' });
    if (algorithm === 'RS256' && !isSoundRsa(publicKey))
      return 'an RSA key has 2048 to 4096 bits and an odd exponent from 3 on';
    return { algorithm, publicKey, thumbprint };
  } catch {
    return `jwk is no key for ${algorithm}`;
  }
}

/** Whether the key's owner signed it. */
export function isSignedBy(key: AgentKey, { jws }: ForeignJwt): boolean {
  return verifyJws(jws, key);
}

function requiredMembers(
  algorithm: Algorithm,
  { kty, crv, x, y, e, n }: Record<string, unknown>,
): Record<string, unknown> | undefined {
  switch (algorithm) {
    case 'ES256':
      return kty === 'EC' && crv === 'P-256' && areCanonical(x, y) ? { crv, kty, x, y } : undefined;
    case 'EdDSA':
      return kty === 'OKP' && crv === 'Ed25519' && areCanonical(x) ? { crv, kty, x } : undefined;
    case 'RS256':
      return kty === 'RSA' && areCanonical(e, n) ? { e, kty, n } : undefined;
  }
}

/** Another spelling of the same key would have another thumbprint. */
function areCanonical(...values: unknown[]): boolean {
  return values.every(
    (value) => typeof value === 'string' && Buffer.from(value, 'base64url').toString('base64url') === value,
  );
}
