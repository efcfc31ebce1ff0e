import { sign, verify, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';

/** RFC 7515 compact serialisation with RS256, and nothing else: an algorithm is pinned, never negotiated. */
export interface JwtHeader {
  alg: 'RS256';
  kid: string;
  /** RFC 8725 section 3.11: explicit, so that a token of one kind is refused as another. */
  typ: string;
}

export type JwtClaims = Readonly<Record<string, unknown>>;

const signOffLoop = promisify(sign);

/** Signs on the thread pool: an RSA signature takes a quarter of a millisecond. */
export async function signJwt(header: JwtHeader, claims: JwtClaims, privateKey: KeyObject): Promise<string> {
  const input = `${encodePart(header)}.${encodePart(claims)}`;
  const signature = await signOffLoop('sha256', Buffer.from(input), privateKey);
  return `${input}.${signature.toString('base64url')}`;
}

/** The header and claims, not yet believed; nothing where the text is no RS256 JWS. */
export function parseJwt(
  token: string,
): { header: JwtHeader; claims: JwtClaims; verify(key: KeyObject): boolean } | undefined {
  const parts = token.split('.');
  const [head = '', body = '', signature = ''] = parts;
  if (parts.length !== 3 || !parts.every((part) => /^[\w-]+$/.test(part))) return undefined;
  const header = decodePart(head);
  const claims = decodePart(body);
  // RFC 7515 section 4.1.11: an extension marked critical that we don't know makes the token invalid.
  if (!header || !claims || header['alg'] !== 'RS256' || 'crit' in header) return undefined;
  const { kid, typ } = header;
  if (typeof kid !== 'string' || typeof typ !== 'string') return undefined;
  return {
    header: { alg: 'RS256', kid, typ },
    claims,
    verify: (key) =>
      verify('sha256', Buffer.from(`${head}.${body}`), key, Buffer.from(signature, 'base64url')),
  };
}

function encodePart(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

function decodePart(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(text, 'base64url').toString());
    return value !== null && typeof value === 'object' && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
