import { hash } from 'node:crypto';
import { unixSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import type { JwtClaims } from '../tokens/jws.ts';
import { isSignedBy, readAgentKey, readForeignJwt } from './foreign-jws.ts';

/** What a proof must be of (RFC 9449 section 4.3). */
export interface DpopRequest {
  method: string;
  /** As callers reach us, without query and fragment. */
  url: string;
  now: Date;
  /** Where a token is presented with it: the proof must name it. */
  accessToken?: string;
}

/** A good proof: of which key, and what makes it usable once. */
export interface DpopProof {
  /** RFC 7638, as a token's `cnf.jkt` has it. */
  thumbprint: string;
  jti: string;
  nonce: string | undefined;
  /** When its window ends: its `jti` need not be remembered for longer. */
  expiresAt: Date;
}

/** Checks one proof but for its single use and its nonce. Gives the reason of a refusal as a text for the client. */
export function checkDpopProof(text: string, request: DpopRequest): DpopProof | string {
  const jwt = readForeignJwt(text);
  if (!jwt) return 'it is no JWS of a few kilobytes';
  const { header } = jwt.jws;
  const { claims } = jwt;
  if (header['typ'] !== 'dpop+jwt') return 'typ must be dpop+jwt';
  const key = readAgentKey(header['alg'], header['jwk']);
  if (typeof key === 'string') return key;
  const expiresAt = checkClaims(claims, request);
  if (typeof expiresAt === 'string') return expiresAt;
  if (!isSignedBy(key, jwt)) return 'its signature is not of its key';
  const { jti, nonce } = claims;
  return {
    thumbprint: key.thumbprint,
    jti: jti as string,
    nonce: typeof nonce === 'string' ? nonce : undefined,
    expiresAt,
  };
}

function checkClaims(claims: JwtClaims, request: DpopRequest): Date | string {
  const { jti, htm, htu, iat, ath } = claims;
  if (typeof jti !== 'string' || jti === '' || jti.length > 256) return 'jti must be 1 to 256 characters';
  if (htm !== request.method) return `htm must be ${request.method}`;
  if (typeof htu !== 'string' || !isSameUrl(htu, request.url)) return `htu must be ${request.url}`;
  if (typeof iat !== 'number') return 'iat is missing';
  if (Math.abs(unixSeconds(request.now) - iat) > limits.dpopWindowSeconds)
    return `iat must be within ${limits.dpopWindowSeconds} s of now`;
  if (request.accessToken !== undefined && ath !== hash('sha256', request.accessToken, 'base64url'))
    return 'ath must be the SHA-256 of the access token';
  return new Date((iat + limits.dpopWindowSeconds + 1) * 1000);
}

/** RFC 9449 section 4.3: query and fragment are ignored, and both are normalised as URLs are. */
function isSameUrl(given: string, own: string): boolean {
  const [left, right] = [URL.parse(given), URL.parse(own)];
  return left !== null && right !== null && left.origin === right.origin && left.pathname === right.pathname;
}
