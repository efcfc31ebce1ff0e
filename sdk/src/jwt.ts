import type { PublicJwk } from './issuer-keys.ts';

/** The algorithms that an issuer may be set to (RFC 7518 section 3.1, RFC 8037). */
export type SignatureAlgorithm = 'RS256' | 'ES256' | 'EdDSA';

/** A compact JWS of JSON objects: read, and not yet believed. */
export interface Jwt {
  header: Readonly<Record<string, unknown>>;
  claims: Readonly<Record<string, unknown>>;
  signed: Uint8Array<ArrayBuffer>;
  signature: Uint8Array<ArrayBuffer>;
}

/** What WebCrypto calls each algorithm; RFC 7518 section 3.4 has the same bytes of an ECDSA signature as it has. */
const webCrypto: Record<SignatureAlgorithm, { kty: string; name: string } & Record<string, string>> = {
  RS256: { kty: 'RSA', name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
  ES256: { kty: 'EC', name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' },
  EdDSA: { kty: 'OKP', name: 'Ed25519' },
};

/** Base64url in its only spelling, without padding and with the left-over bits zero (RFC 4648 section 3.5). */
const canonicalBase64url = /^(?:[\w-]{4})*(?:[\w-][AQgw]|[\w-]{2}[AEIMQUYcgkosw048])?$/;

/** Reads a JWT; nothing where the text is none, or has an extension marked critical (RFC 7515 section 4.1.11). */
export function parseJwt(text: string): Jwt | undefined {
  const parts = text.split('.');
  const [head = '', body = '', signature = ''] = parts;
  if (parts.length !== 3 || !parts.every((part) => part !== '' && canonicalBase64url.test(part)))
    return undefined;
  const header = readObject(head);
  const claims = readObject(body);
  if (!header || !claims || 'crit' in header) return undefined;
  return {
    header,
    claims,
    signed: new TextEncoder().encode(`${head}.${body}`),
    signature: decode(signature),
  };
}

/** Whether the key made the signature with this algorithm. Header and key must both name it, and decide nothing (RFC 8725 section 3.1). */
export async function isSignedBy(jwt: Jwt, jwk: PublicJwk, algorithm: SignatureAlgorithm): Promise<boolean> {
  const { kty, ...parameters } = webCrypto[algorithm];
  if (jwt.header['alg'] !== algorithm || jwk.alg !== algorithm || jwk.kty !== kty) return false;
  if (jwk.use !== undefined && jwk.use !== 'sig') return false;
  // WebCrypto reads `key_ops` and `alg` as well, and knows other names for them.
  const { n, e, crv, x, y } = jwk;
  const members = Object.fromEntries(
    Object.entries({ kty, n, e, crv, x, y }).filter(([, value]) => value !== undefined),
  );
  const key = await crypto.subtle.importKey('jwk', members, parameters, false, ['verify']);
  return crypto.subtle.verify(parameters, key, jwt.signature, jwt.signed);
}

function readObject(part: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(decode(part)));
    return value !== null && typeof value === 'object' && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

function decode(part: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(part.replaceAll('-', '+').replaceAll('_', '/')), (character) =>
    character.charCodeAt(0),
  );
}
