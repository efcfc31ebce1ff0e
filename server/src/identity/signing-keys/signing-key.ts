import { createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { thumbprintOf } from '../credentials/public-key.ts';

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

/** From when on every verifier knows a key that was published then, and it may sign. */
export function knownFrom(publishedAt: Date): Date {
  return addSeconds(publishedAt, limits.nextKeyPublishedSeconds);
}

const generate = promisify(generateKeyPair);

/** Makes a key pair on the thread pool: an RSA key takes some tenths of a second. */
export async function generateSigningKey(
  algorithm: Algorithm,
): Promise<{ jwk: PublicJwk; privateKey: KeyObject }> {
  const { publicKey, privateKey } = await generatePair(algorithm);
  const required = publicKey.export({ format: 'jwk' });
  const members = { ...required, alg: algorithm } as PublicMembers;
  return { jwk: { ...members, kid: thumbprintOf({ ...required }), use: 'sig' }, privateKey };
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
