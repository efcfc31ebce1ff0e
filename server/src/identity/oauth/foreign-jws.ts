import { createPublicKey, hash, type JsonWebKey, type KeyObject, verify } from 'node:crypto';
import { limits } from '../../kernel/limits.ts';

/** Algorithms of agents' own keys: what their assertions and proofs may be signed with. Nothing symmetric, and never `none`. */
export const agentKeyAlgorithms = ['ES256', 'EdDSA', 'RS256'] as const;
type Algorithm = (typeof agentKeyAlgorithms)[number];

/** A compact JWS that somebody else signed, not yet believed. */
export interface ForeignJws {
  header: Readonly<Record<string, unknown>>;
  claims: Readonly<Record<string, unknown>>;
  input: string;
  signature: string;
}

/** Reads the three parts; nothing where the text is too long, is no JWS, or needs an extension to be understood. */
export function parseJws(text: string): ForeignJws | undefined {
  const [head = '', body = '', signature = '', ...more] = text.split('.', 4);
  if (more.length > 0 || text.length > limits.foreignJwsCharacters || !/^[\w-]+$/.test(signature)) return undefined;
  const header = decode(head);
  const claims = decode(body);
  // RFC 7515 section 4.1.11: an extension marked critical that we don't know makes it invalid.
  if (!header || !claims || 'crit' in header) return undefined;
  return { header, claims, input: `${head}.${body}`, signature };
}

/** A public key with the one algorithm that it may be used with. */
export interface PublicKey {
  algorithm: Algorithm;
  key: KeyObject;
  /** RFC 7638. */
  thumbprint: string;
}

/** A key of another's header or of an agent's credential, if it is public and of the one kind that `alg` has; else what is wrong. */
export function readPublicKey(alg: unknown, jwk: unknown): PublicKey | string {
  const algorithm = agentKeyAlgorithms.find((one) => one === alg);
  if (!algorithm) return `alg must be one of ${agentKeyAlgorithms.join(', ')}`;
  if (typeof jwk !== 'object' || jwk === null) return 'jwk is missing';
  const members = jwk as Record<string, unknown>;
  if (['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'].some((name) => name in members))
    return 'jwk holds a private key, which nobody else may see: make another';
  const required = requiredMembers(algorithm, members);
  if (!required) return `jwk is no key for ${algorithm}`;
  // RFC 7638 section 3.2: the required members in lexicographic order, which is how they stand.
  const thumbprint = hash('sha256', JSON.stringify(required), 'base64url');
  try {
    const key = createPublicKey({ key: required as JsonWebKey, format: 'jwk' });
    if (algorithm === 'RS256' && (key.asymmetricKeyDetails?.modulusLength ?? 0) < 2048)
      return 'an RSA key needs 2048 bits';
    return { algorithm, key, thumbprint };
  } catch {
    return `jwk is no key for ${algorithm}`;
  }
}

/** Whether the key's owner signed it. The header's `alg` is not asked again: the key has one. */
export function isSignedBy({ algorithm, key }: PublicKey, { input, signature }: ForeignJws): boolean {
  const bytes = Buffer.from(signature, 'base64url');
  const data = Buffer.from(input);
  if (algorithm === 'EdDSA') return verify(null, data, key, bytes);
  // RFC 7518 section 3.4: the two numbers side by side, not in DER.
  return verify('sha256', data, algorithm === 'ES256' ? { key, dsaEncoding: 'ieee-p1363' } : key, bytes);
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

function decode(text: string): Record<string, unknown> | undefined {
  if (!/^[\w-]+$/.test(text)) return undefined;
  try {
    const value: unknown = JSON.parse(Buffer.from(text, 'base64url').toString());
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
