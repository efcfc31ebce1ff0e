import { type KeyObject, sign, verify } from 'node:crypto';
import { promisify } from 'node:util';
import type { Algorithm } from '../signing-keys/signing-key.ts';

/** A compact JWS as it came (RFC 7515 section 7.1): well-formed, and not yet believed. */
export interface Jws {
  readonly header: Readonly<Record<string, unknown>>;
  /** The first two parts, which the signature covers. */
  readonly signingInput: string;
  /** The second part, still in base64url. */
  readonly payload: string;
  readonly signature: Buffer;
}

export type JwtClaims = Readonly<Record<string, unknown>>;

const signOffLoop = promisify(sign);

/**
 * Base64url in its only spelling (RFC 4648 section 3.5): without padding, the bits that are left over zero. Otherwise one
 * signature has several spellings, and a list of revoked or used tokens misses all but one.
 */
const canonicalBase64url = /^(?:[\w-]{4})*(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?$/;

/** Reads a compact JWS; nothing where the text is none, or has an extension marked critical (RFC 7515 section 4.1.11): we know none. */
export function parseJws(text: string): Jws | undefined {
  const headerEnd = text.indexOf('.');
  const payloadEnd = text.indexOf('.', headerEnd + 1);
  if (headerEnd < 1 || payloadEnd < 0) return undefined;
  const head = text.slice(0, headerEnd);
  const payload = text.slice(headerEnd + 1, payloadEnd);
  const signature = text.slice(payloadEnd + 1);
  if (payload === '' || signature === '' || ![head, payload, signature].every(isCanonical)) return undefined;
  const header = readObject(head);
  if (!header || 'crit' in header) return undefined;
  return {
    header,
    signingInput: text.slice(0, payloadEnd),
    payload,
    signature: Buffer.from(signature, 'base64url'),
  };
}

/** The claims of a JWT; nothing where the payload is no JSON object. Believe them after `verifyJws`. */
export function readClaims(jws: Jws): JwtClaims | undefined {
  return readObject(jws.payload);
}

/**
 * Whether the key made the signature, with the algorithm that the key is for. The header must say the same, and decides nothing
 * (RFC 8725 section 3.1). Runs on the event loop: 30 microseconds (RS256) to 130 (EdDSA), which is less than handing it to a thread.
 */
export function verifyJws(jws: Jws, key: { algorithm: Algorithm; publicKey: KeyObject }): boolean {
  if (jws.header['alg'] !== key.algorithm) return false;
  const input = Buffer.from(jws.signingInput, 'latin1');
  switch (key.algorithm) {
    case 'RS256':
      return verify('sha256', input, key.publicKey, jws.signature);
    case 'ES256':
      // RFC 7518 section 3.4: two numbers of 32 bytes, not DER.
      return (
        jws.signature.length === 64 &&
        verify('sha256', input, { key: key.publicKey, dsaEncoding: 'ieee-p1363' }, jws.signature)
      );
    case 'EdDSA':
      return verify(null, input, key.publicKey, jws.signature);
  }
}

/** The first part of a JWS, which is the same for all that a key signs of one kind. */
export function encodeHeader(header: Readonly<Record<string, unknown>>): string {
  return encodePart(header);
}

/** What the signature of a JWS covers: its first two parts. */
export function writeSigningInput(encodedHeader: string, claims: JwtClaims): string {
  return `${encodedHeader}.${encodePart(claims)}`;
}

/** The third part of a JWS by RSA, made on the thread pool, as it takes a quarter of a millisecond. */
export async function signByRsa(signingInput: string, privateKey: KeyObject): Promise<string> {
  const signature = await signOffLoop('sha256', Buffer.from(signingInput, 'latin1'), privateKey);
  return signature.toString('base64url');
}

/** The third part of a JWS by an elliptic curve, made at once: that takes 20 microseconds (ES256) to 60 (EdDSA). */
export function signByCurve(
  signingInput: string,
  { algorithm, privateKey }: { algorithm: Exclude<Algorithm, 'RS256'>; privateKey: KeyObject },
): string {
  const input = Buffer.from(signingInput, 'latin1');
  const signature =
    algorithm === 'ES256'
      ? sign('sha256', input, { key: privateKey, dsaEncoding: 'ieee-p1363' })
      : sign(null, input, privateKey);
  return signature.toString('base64url');
}

function isCanonical(part: string): boolean {
  return canonicalBase64url.test(part);
}

function encodePart(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function readObject(part: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString());
    return value !== null && typeof value === 'object' && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
