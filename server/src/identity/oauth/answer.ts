import { randomUUIDv7 } from 'node:crypto';
import { addSeconds } from '../../kernel/clock.ts';
import { AppError } from '../../kernel/errors.ts';
import { limits } from '../../kernel/limits.ts';
import { type Agent, tokenLifeSeconds, tokenTime } from '../agents/agent.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import type { RefreshFamily } from './refresh-families.sql.ts';
import { tokenIdOf } from './refresh-token.ts';

/** RFC 6749 section 5.1. */
export interface TokenAnswer {
  access_token: string;
  token_type: 'Bearer' | 'DPoP';
  expires_in: number;
  /** Absent where nothing was granted: the grammar of RFC 6749 section 3.3 has no empty scope. */
  scope?: string;
  refresh_token: string;
}

/** Signs the access token of a family's generation, and makes the answer. It ends with the agent, if that is sooner. */
export async function makeAnswer(
  server: Pick<AuthorizationServer, 'tokens'>,
  given: {
    agent: Pick<Agent, 'clientId' | 'expiresAt' | 'tokensValidFrom'>;
    family: Pick<RefreshFamily, 'agentId' | 'generation' | 'id' | 'keyThumbprint' | 'resource'>;
    scope: string;
    refreshToken: string;
    now: Date;
  },
): Promise<TokenAnswer> {
  const { agent, family, scope } = given;
  const now = tokenTime(agent, given.now);
  const ttlSeconds = tokenLifeSeconds(agent, now, limits.accessTokenSeconds);
  if (ttlSeconds === 0) throw new AppError('invalid_grant', 'The agent expires within the second');
  const { token } = await server.tokens.issueAccessToken({
    agentId: family.agentId,
    clientId: agent.clientId,
    scope,
    audience: family.resource,
    ttlSeconds,
    ...(family.keyThumbprint === null ? {} : { cnf: { jkt: family.keyThumbprint } }),
    jti: tokenIdOf(family.id, family.generation),
    now,
  });
  return {
    access_token: token,
    token_type: family.keyThumbprint === null ? 'Bearer' : 'DPoP',
    expires_in: ttlSeconds,
    ...(scope === '' ? {} : { scope }),
    refresh_token: given.refreshToken,
  };
}

/** Time-ordered, so that what is written together stands together. */
export function newFamilyId(): string {
  return randomUUIDv7();
}

/** A month, or until the agent ends. */
export function familyEnd(agent: Pick<Agent, 'expiresAt'>, now: Date): Date {
  const month = addSeconds(now, limits.refreshFamilySeconds);
  return agent.expiresAt !== null && agent.expiresAt < month ? agent.expiresAt : month;
}
