import type { Clock } from '../../kernel/clock.ts';
import { type AgentId, isAgentId } from '../../kernel/ids.ts';
import { type JwtClaims, parseJws, readClaims } from '../tokens/jws.ts';
import type { Tokens } from '../tokens/tokens.ts';
import type { Revocations } from './revocations.ts';

/** An access token of ours that is good now. */
export interface AccessToken {
  agentId: AgentId;
  clientId: string;
  jti: string;
  scope: string;
  audience: string | readonly string[];
  /** `iat`, in unix seconds. */
  issuedAt: number;
  expiresAt: Date;
  /** RFC 9449: the key that it is bound to. */
  keyThumbprint: string | undefined;
  claims: JwtClaims;
}

/** Verifies access tokens, revocation included, without a read of the database. */
export interface AccessTokens {
  /** The token, if it is for this audience: for any where none is named. Throws `unavailable` as `Revocations.isDead` does. */
  verify(token: string, audience?: string): Promise<AccessToken | undefined>;
}

export function createAccessTokens(context: {
  clock: Clock;
  tokens: Tokens;
  revocations: Revocations;
}): AccessTokens {
  const { clock, tokens, revocations } = context;
  return {
    async verify(text, audience) {
      const expected = audience ?? readAudience(text);
      if (expected === undefined) return undefined;
      const claims = await tokens.verify(text, { typ: 'at+jwt', audience: expected, now: clock.now() });
      const token = claims && readAccessToken(claims);
      if (!token || (await revocations.isDead({ ...token, iat: token.issuedAt }))) return undefined;
      return token;
    },
  };
}

function readAccessToken(claims: JwtClaims): AccessToken | undefined {
  const { sub, client_id, jti, scope, aud, exp, iat, cnf } = claims;
  if (typeof sub !== 'string' || !isAgentId(sub) || typeof jti !== 'string') return undefined;
  const jkt: unknown = typeof cnf === 'object' && cnf !== null ? (cnf as { jkt?: unknown }).jkt : undefined;
  // A binding that we don't know can't be honoured, so that the token isn't good for us.
  if (cnf !== undefined && typeof jkt !== 'string') return undefined;
  return {
    agentId: sub,
    clientId: typeof client_id === 'string' ? client_id : sub,
    jti,
    scope: typeof scope === 'string' ? scope : '',
    audience: aud as string | string[],
    issuedAt: iat as number,
    expiresAt: new Date((exp as number) * 1000),
    keyThumbprint: typeof jkt === 'string' ? jkt : undefined,
    claims,
  };
}

/** Not yet believed: it is compared with itself. */
function readAudience(text: string): string | undefined {
  const jws = parseJws(text);
  const aud = jws && readClaims(jws)?.['aud'];
  const first: unknown = Array.isArray(aud) ? aud[0] : aud;
  return typeof first === 'string' ? first : undefined;
}
