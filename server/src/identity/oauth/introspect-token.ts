import { equalDigests } from '../../kernel/crypto.ts';
import { unixSeconds } from '../../kernel/clock.ts';
import { findAgent } from '../agents/agents.sql.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { findAudience } from './audience.ts';
import type { AccessTokens } from './access-tokens.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import { findFamilyEnd } from './family-end.ts';
import { type Caller, mayBelieve } from './oauth-caller.ts';
import { findFamily } from './refresh-families.sql.ts';
import { readRefreshToken } from './refresh-token.ts';
import { findKeyFault } from './rotate-refresh-token.ts';

/** RFC 7662 section 2.2; `{ active: false }` and nothing else for whatever isn't good, or isn't the caller's to know about. */
export type Introspection = { active: false } | ({ active: true } & Record<string, unknown>);

/** What is true of a token at this moment. A wrong `token_type_hint` changes nothing: the text says what it is. */
export async function introspectToken(
  server: AuthorizationServer & { accessTokens: AccessTokens },
  caller: Caller,
  token: string,
): Promise<Introspection> {
  const found = token.startsWith('rt_')
    ? await introspectRefreshToken(server, token)
    : await introspectAccessToken(server, token);
  return found && (await mayBelieve(server, caller, found.agentId)) ? found.answer : { active: false };
}

async function introspectAccessToken(
  server: AuthorizationServer & { accessTokens: AccessTokens },
  text: string,
) {
  const token = await server.accessTokens.verify(text);
  if (!token) return undefined;
  // One may have been granted at the very moment of a stop.
  for (const resource of [token.audience].flat())
    if (!(await isForResource(server, token, resource))) return undefined;
  const answer = {
    ...token.claims,
    active: true as const,
    token_type: token.keyThumbprint === undefined ? 'Bearer' : 'DPoP',
    client_id: token.clientId,
  };
  return { agentId: token.agentId, answer };
}

/** Whether the registry still has the resource of a token, for its agent. */
function isForResource(
  { db, issuer }: AuthorizationServer,
  token: { agentId: AgentId },
  resource: string,
): Promise<boolean> {
  return findAudience({ db, issuer }, token, resource).then(
    () => true,
    (error: unknown) => {
      if (error instanceof AppError && error.code === 'invalid_target') return false;
      throw error;
    },
  );
}

async function introspectRefreshToken(server: AuthorizationServer, text: string) {
  const token = readRefreshToken(text);
  const family = token && (await findFamily(server.db, token.familyId));
  if (!token || !family || !equalDigests(token.hash, family.tokenHash)) return undefined;
  const agent = await findAgent(server.db, family.agentId);
  const now = server.clock.now();
  if (!agent || findFamilyEnd(family, agent, now) !== undefined) return undefined;
  // What a refresh would be refused for whoever asked: RFC 7662 section 2.2 calls active what could be used at this moment.
  if (await findKeyFault(server.db, { agent, family, now })) return undefined;
  if (!(await isForResource(server, family, family.resource))) return undefined;
  const answer = {
    active: true as const,
    iss: server.issuer,
    sub: family.agentId,
    client_id: agent.clientId,
    scope: family.scope,
    aud: family.resource,
    iat: unixSeconds(family.createdAt),
    exp: unixSeconds(family.expiresAt),
    ...(family.keyThumbprint === null ? {} : { cnf: { jkt: family.keyThumbprint } }),
  };
  return { agentId: family.agentId, answer };
}
