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
  const jwk = exportKnown(key);
  if (jwk) return jwk;
  throw refusal('must be RSA of 2048 to 4096 bits with an odd exponent, EC on P-256, or Ed25519');
}

/** Node exports no JWK of most other kinds of keys, and throws: so its kind comes first. */
function exportKnown(key: KeyObject): AgentPublicJwk | undefined {
  const { namedCurve } = key.asymmetricKeyDetails ?? {};
  const kind = key.asymmetricKeyType;
  const isKnown = kind === 'ed25519' || (kind === 'ec' && namedCurve === 'prime256v1');
  if (!isKnown && !(kind === 'rsa' && isSoundRsa(key))) return undefined;
  const { x = '', y = '', n = '', e = '' } = key.export({ format: 'jwk' });
  if (kind === 'ec') return { kty: 'EC', crv: 'P-256', x, y };
  return kind === 'ed25519' ? { kty: 'OKP', crv: 'Ed25519', x } : { kty: 'RSA', n, e };
}

/**
 * Whether an RSA key is one that signatures may be believed of: of 2048 to 4096 bits, with an odd exponent from 3 on (with 1 a signature
 * is its own message), and below 2^32, so that verifying stays cheap.
 */
export function isSoundRsa(key: KeyObject): boolean {
  const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  const isExponent = publicExponent >= 3n && publicExponent % 2n === 1n && publicExponent < 2n ** 32n;
  return modulusLength >= rsaBitsMin && modulusLength <= rsaBitsMax && isExponent;
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
