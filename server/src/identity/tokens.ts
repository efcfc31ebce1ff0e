import { randomUUID } from 'node:crypto';
import { unixSeconds } from '../kernel/clock.ts';
import { type AgentId, isAgentId } from '../kernel/ids.ts';
import { limits } from '../kernel/limits.ts';
import { parseJwt, signJwt } from './jwt.ts';
import type { SigningKeys } from './signing-keys.ts';

/** Issues and verifies agents' access tokens (RFC 9068). */
export interface Tokens {
  /** A JWT access token of RFC 9068 (`typ: at+jwt`), for this server itself, good for 15 minutes. */
  issueAgentToken(agentId: AgentId, now: Date): Promise<string>;
  /** Whose token it is; nothing where it isn't one of ours, has expired, or is of another type. */
  verifyAgentToken(token: string, now: Date): AgentId | undefined;
  /** Whether the text says that it is a token of this issuer, good or not: then no third party may see it. */
  isOurs(text: string): boolean;
}

const accessTokenType = 'at+jwt';
/** Clocks of one instance's machines may differ by this much (RFC 8725 leaves it to us). */
const skewSeconds = 30;

export function createTokens(keys: SigningKeys, issuer: string): Tokens {
  return {
    async issueAgentToken(agentId, now) {
      const issuedAt = unixSeconds(now);
      const claims = {
        iss: issuer,
        aud: issuer,
        sub: agentId,
        agent_id: agentId,
        client_id: agentId,
        scope: '',
        iat: issuedAt,
        exp: issuedAt + limits.agentTokenSeconds,
        jti: randomUUID(),
      };
      return signJwt(
        { alg: 'RS256', kid: keys.active.kid, typ: accessTokenType },
        claims,
        keys.active.privateKey,
      );
    },

    verifyAgentToken(token, now) {
      const jwt = parseJwt(token);
      if (!jwt || jwt.header.typ !== accessTokenType) return undefined;
      const key = keys.findPublicKey(jwt.header.kid);
      if (!key || !jwt.verify(key)) return undefined;
      const { iss, aud, sub, iat, exp } = jwt.claims;
      if (iss !== issuer || aud !== issuer) return undefined;
      if (typeof exp !== 'number' || typeof iat !== 'number') return undefined;
      const seconds = unixSeconds(now);
      if (exp <= seconds || iat > seconds + skewSeconds) return undefined;
      return typeof sub === 'string' && isAgentId(sub) ? sub : undefined;
    },

    isOurs: (text) => parseJwt(text)?.claims['iss'] === issuer,
  };
}
