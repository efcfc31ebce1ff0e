import { unixSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { type ForeignJwt, isSignedBy, readAgentKey, readForeignJwt } from './foreign-jws.ts';

/** A client's assertion about itself (RFC 7523), not yet believed. */
export interface ClientAssertion {
  jwt: ForeignJwt;
  /** Whom it says that it is of: issuer and subject alike. */
  clientId: string;
  jti: string;
  /** Its `jti` need not be remembered for longer. */
  expiresAt: Date;
}

/**
 * Checks all of an assertion but its signature and its single use. RFC 7523 section 3: `iss` and `sub` are the client, `aud` is us
 * and nobody else, `exp` is near. Gives the reason of a refusal as a text.
 */
export function readClientAssertion(
  text: string,
  given: { audiences: readonly string[]; now: Date },
): ClientAssertion | string {
  const jwt = readForeignJwt(text);
  if (!jwt) return 'it is no JWS of a few kilobytes';
  const { typ } = jwt.jws.header;
  // RFC 8725 section 3.11: what says that it is another kind of token is refused, whoever signed it.
  if (typ !== undefined && typ !== 'JWT' && typ !== 'client-authentication+jwt')
    return 'typ must be JWT, client-authentication+jwt or absent';
  const { iss, sub, aud, exp, iat, nbf, jti } = jwt.claims;
  if (typeof iss !== 'string' || iss !== sub) return 'iss and sub must both be the client_id';
  const audience: unknown = Array.isArray(aud) && aud.length === 1 ? aud[0] : aud;
  if (typeof audience !== 'string' || !given.audiences.includes(audience))
    return `aud must be ${given.audiences[0]}`;
  if (typeof jti !== 'string' || jti === '' || jti.length > 256) return 'jti must be 1 to 256 characters';
  const now = unixSeconds(given.now);
  if (typeof exp !== 'number' || exp <= now) return 'it has expired';
  if (exp > now + limits.assertionSecondsMax + limits.clockSkewSeconds)
    return `it must expire within ${limits.assertionSecondsMax} s`;
  for (const begin of [iat, nbf])
    if (begin !== undefined && (typeof begin !== 'number' || begin > now + limits.clockSkewSeconds))
      return 'it is of the future';
  return { jwt, clientId: iss, jti, expiresAt: new Date((Math.ceil(exp) + 1) * 1000) };
}

/** Which of a client's registered keys signed it: its own `kid` or `jwk` is not asked. */
export function findAssertionKey<Key extends { jwk: object }>(
  { jwt }: ClientAssertion,
  keys: readonly Key[],
): Key | undefined {
  return keys.find(({ jwk }) => {
    const key = readAgentKey(jwt.jws.header['alg'], jwk);
    return typeof key !== 'string' && isSignedBy(key, jwt);
  });
}
