import { createHash, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';

/** The signature algorithms of this server (RFC 7518 section 3.1, RFC 8037 section 3.1). */
export const algorithms = ['RS256', 'ES256', 'EdDSA'] as const;
export type Algorithm = (typeof algorithms)[number];

/** `next` is published but doesn't sign yet; `retiring` verifies what it has signed; `gone` is a row alone. */
export type SigningKeyState = 'next' | 'active' | 'retiring' | 'gone';

/** The public half as RFC 7517 publishes it: its use and its one algorithm with it. */
export type PublicJwk = { kid: string; use: 'sig' } & PublicMembers;

type PublicMembers =
  | { kty: 'RSA'; alg: 'RS256'; n: string; e: string }
  | { kty: 'EC'; alg: 'ES256'; crv: 'P-256'; x: string; y: string }
  | { kty: 'OKP'; alg: 'EdDSA'; crv: 'Ed25519'; x: string };

/** A key that checks signatures. Its algorithm is a fact of the key, whatever a token's header says (RFC 8725 section 3.1). */
export interface VerifyingKey {
  readonly kid: string;
  readonly algorithm: Algorithm;
  readonly publicKey: KeyObject;
}

/** A key that signs as well. */
export interface SigningKey {
  readonly kid: string;
  readonly algorithm: Algorithm;
  readonly privateKey: KeyObject;
}

const generate = promisify(generateKeyPair);

/** Makes a key pair on the thread pool: an RSA key takes some tenths of a second. */
export async function generateSigningKey(
  algorithm: Algorithm,
): Promise<{ jwk: PublicJwk; privateKey: KeyObject }> {
  const { publicKey, privateKey } = await generatePair(algorithm);
  const members = { ...publicKey.export({ format: 'jwk' }), alg: algorithm } as PublicMembers;
  return { jwk: { ...members, kid: thumbprint(members), use: 'sig' }, privateKey };
}

function generatePair(algorithm: Algorithm) {
  switch (algorithm) {
    case 'RS256':
      return generate('rsa', { modulusLength: 2048 });
    case 'ES256':
      return generate('ec', { namedCurve: 'P-256' });
    case 'EdDSA':
      return generate('ed25519');
  }
}

/** The public half as a key object. */
export function openPublicJwk(jwk: PublicJwk): VerifyingKey {
  return {
    kid: jwk.kid,
    algorithm: jwk.alg,
    publicKey: createPublicKey({ key: { ...jwk }, format: 'jwk' }),
  };
}

/** RFC 7638: SHA-256 over the required members in lexicographic order; of Ed25519, RFC 8037 section 2. */
function thumbprint(jwk: PublicMembers): string {
  const required =
    jwk.kty === 'RSA'
      ? { e: jwk.e, kty: jwk.kty, n: jwk.n }
      : jwk.kty === 'EC'
        ? { crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y }
        : { crv: jwk.crv, kty: jwk.kty, x: jwk.x };
  return createHash('sha256').update(JSON.stringify(required)).digest('base64url');
}
