import { randomUUID } from 'node:crypto';
import { assert } from '../../kernel/assert.ts';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import { type AgentId, isAgentId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import type { Algorithm, SigningKey } from '../signing-keys/signing-key.ts';
import type { SigningKeys } from '../signing-keys/signing-keys.ts';
import {
  encodeHeader,
  type Jws,
  type JwtClaims,
  parseJws,
  readClaims,
  signByRsa,
  verifyJws,
  writeSigningInput,
} from './jws.ts';
import { createSigningThread } from './signing-thread.ts';

/** What we sign, by the `typ` of its header (RFC 8725 section 3.11): access tokens (RFC 9068) and credentials (VC-JOSE-COSE). */
export type TokenType = 'at+jwt' | 'vc+jwt';

/** What a verifier demands of a token besides our signature. */
export interface Expected {
  typ: TokenType;
  /** Who the token must be for: one of these, if several. */
  audience: string | readonly string[];
  now: Date;
}

/** Who an access token is for, and for how long. */
export interface AccessTokenGrant {
  agentId: AgentId;
  clientId: string;
  /** The linked person's verified address, and no other. */
  email?: string;
  /** Words with a space between them (RFC 6749 section 3.3); may be empty. */
  scope: string;
  /** RFC 8707: the resources that it is for. */
  audience: string | readonly string[];
  ttlSeconds: number;
  /** RFC 9449 section 6.1: the thumbprint of the key that the token is bound to. */
  cnf?: { jkt: string };
  /** Where the caller names the token itself; it must never have named another so. */
  jti?: string;
  now: Date;
}

/** A token, and what a record of it needs. */
export interface SignedToken {
  token: string;
  jti: string;
  kid: string;
  issuedAt: Date;
  expiresAt: Date;
}

/** Why a token is refused. What its claims say is looked at after its signature, so that this tells a forger nothing. */
export type TokenFault =
  | 'malformed'
  | 'wrong_type'
  | 'unknown_key'
  | 'bad_signature'
  | 'wrong_issuer'
  | 'wrong_audience'
  | 'expired'
  | 'not_yet_valid';

/** The claims of a good token, or what is wrong with it. */
export type Checked = { claims: JwtClaims; fault?: undefined } | { claims?: undefined; fault: TokenFault };

/** Signs and verifies this instance's own tokens. */
export interface Tokens {
  readonly issuer: string;
  /** Signs claims with the key that is active now, and adds `iss`, `iat`, `exp` and `jti`. */
  sign(
    typ: TokenType,
    claims: JwtClaims,
    life: { ttlSeconds: number; now: Date; jti?: string | undefined },
  ): Promise<SignedToken>;
  /** The claims of a token that is ours, of this type, for this audience, and good now; otherwise nothing. */
  verify(token: string, expected: Expected): Promise<JwtClaims | undefined>;
  /** The same, with the reason of a refusal, for whoever may know it. */
  check(token: string, expected: Expected): Promise<Checked>;
  /** A JWT access token of RFC 9068. */
  issueAccessToken(grant: AccessTokenGrant): Promise<SignedToken>;
  /** An access token for this server itself, good for 15 minutes, or for less. */
  issueAgentToken(agentId: AgentId, now: Date, ttlSeconds?: number): Promise<string>;
  /** Whose access token for this server it is; nothing where it isn't one. */
  verifyAgentToken(token: string, now: Date): Promise<AgentId | undefined>;
  /** Whether the text says that it is a token of this issuer, good or not: then no third party may see it. */
  isOurs(text: string): boolean;
}

/** Which algorithm signs what. */
export type TokenAlgorithms = Readonly<Record<TokenType, Algorithm>>;

/** VC-JOSE-COSE section 3.1.1 names what the payload is as well. */
const contentTypes = { 'at+jwt': {}, 'vc+jwt': { cty: 'vc' } } as const;
/** A token may be dated a second ahead (`tokenTime`), and the clock be set back by less than this (RFC 8725 leaves it to us). */
const skewSeconds = 30;

export function createTokens(
  keys: Pick<SigningKeys, 'getSigner' | 'findKey' | 'findNewKey'>,
  issuer: string,
  algorithms: TokenAlgorithms,
): Tokens {
  const sign = createSigner(keys, issuer, algorithms);

  async function check(token: string, expected: Expected): Promise<Checked> {
    const jws = parseJws(token);
    if (!jws) return { fault: 'malformed' };
    const { kid, typ } = jws.header;
    if (typ !== expected.typ) return { fault: 'wrong_type' };
    if (typeof kid !== 'string') return { fault: 'unknown_key' };
    const key = keys.findKey(kid) ?? (saysIssuer(jws, issuer) ? await keys.findNewKey(kid) : undefined);
    if (!key) return { fault: 'unknown_key' };
    if (!verifyJws(jws, key)) return { fault: 'bad_signature' };
    const claims = readClaims(jws);
    if (!claims) return { fault: 'malformed' };
    const fault = findFault(claims, issuer, expected);
    return fault ? { fault } : { claims };
  }

  async function issueAccessToken(grant: AccessTokenGrant): Promise<SignedToken> {
    const { agentId, clientId, email, scope, audience, cnf, ttlSeconds, now, jti } = grant;
    const claims = {
      aud: audience,
      sub: agentId,
      agent_id: agentId,
      client_id: clientId,
      scope,
      ...(email === undefined ? {} : { email }),
      ...(cnf ? { cnf } : {}),
    };
    return sign('at+jwt', claims, { ttlSeconds, now, jti });
  }

  return {
    issuer,
    sign,
    check,
    verify: async (token, expected) => (await check(token, expected)).claims,
    issueAccessToken,
    async issueAgentToken(agentId, now, ttlSeconds = limits.agentTokenSeconds) {
      const grant = { agentId, clientId: agentId, scope: '', audience: issuer, ttlSeconds, now };
      return (await issueAccessToken(grant)).token;
    },
    async verifyAgentToken(token, now) {
      const { claims } = await check(token, { typ: 'at+jwt', audience: issuer, now });
      const sub = claims?.['sub'];
      return typeof sub === 'string' && isAgentId(sub) ? sub : undefined;
    },
    isOurs(text) {
      const jws = parseJws(text);
      return jws !== undefined && saysIssuer(jws, issuer);
    },
  };
}

/** Signs with the keys that are active now. */
function createSigner(
  keys: Pick<SigningKeys, 'getSigner'>,
  issuer: string,
  algorithms: TokenAlgorithms,
): Tokens['sign'] {
  // As many as there are keys and types.
  const headers = new Map<string, string>();
  const thread = createSigningThread();

  function headerOf(typ: TokenType, { kid, algorithm }: { kid: string; algorithm: Algorithm }): string {
    const name = `${typ} ${kid}`;
    let header = headers.get(name);
    if (header === undefined) {
      header = encodeHeader({ alg: algorithm, kid, typ, ...contentTypes[typ] });
      headers.set(name, header);
    }
    return header;
  }

  function signWith({ algorithm, privateKey }: SigningKey, signingInput: string): Promise<string> {
    return algorithm === 'RS256'
      ? signByRsa(signingInput, privateKey)
      : thread.sign({ signingInput, key: { algorithm, privateKey } });
  }

  return async (typ, claims, { ttlSeconds, now, jti = randomUUID() }) => {
    // A retiring key is kept for as long as this says, and not for longer.
    assert(ttlSeconds > 0 && ttlSeconds <= limits.signedTokenSecondsMax, 'no token outlives its key');
    const key = keys.getSigner(algorithms[typ]);
    const iat = unixSeconds(now);
    const whole = { ...claims, iss: issuer, iat, exp: iat + ttlSeconds, jti };
    const signingInput = writeSigningInput(headerOf(typ, key), whole);
    const token = `${signingInput}.${await signWith(key, signingInput)}`;
    const issuedAt = new Date(iat * 1000);
    return { token, jti, kid: key.kid, issuedAt, expiresAt: addSeconds(issuedAt, ttlSeconds) };
  };
}

function saysIssuer(jws: Jws, issuer: string): boolean {
  return readClaims(jws)?.['iss'] === issuer;
}

/** RFC 7519 section 4.1. An expiry is kept to the second: only a time that is still to come may be another clock's. */
function findFault(claims: JwtClaims, issuer: string, { audience, now }: Expected): TokenFault | undefined {
  const { iss, aud, exp, nbf, iat } = claims;
  if (iss !== issuer) return 'wrong_issuer';
  if (!isFor(aud, audience)) return 'wrong_audience';
  if (typeof exp !== 'number' || typeof iat !== 'number') return 'malformed';
  if (nbf !== undefined && typeof nbf !== 'number') return 'malformed';
  const seconds = unixSeconds(now);
  if (exp <= seconds) return 'expired';
  return Math.max(iat, nbf ?? iat) > seconds + skewSeconds ? 'not_yet_valid' : undefined;
}

/** RFC 7519 section 4.1.3: who verifies must be among those whom the token is for. */
function isFor(aud: unknown, expected: string | readonly string[]): boolean {
  const named: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
  return named.some((name) =>
    typeof expected === 'string' ? name === expected : expected.includes(name as string),
  );
}
