import { write, type WriteContext } from '../../db/index.ts';
import { equalDigests } from '../../kernel/crypto.ts';
import type { AccessTokens } from './access-tokens.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import { type Caller, mayEnd } from './oauth-caller.ts';
import { findFamily, findSpentToken, revokeFamily } from './refresh-families.sql.ts';
import { readRefreshToken } from './refresh-token.ts';
import { insertRevokedToken, notifyTokensRevoked } from './revocations.sql.ts';

/**
 * Ends a token (RFC 7009): an access token alone, a refresh token with its family and the family's access tokens. What isn't known,
 * is dead already or isn't the caller's is left as it is, and not told apart.
 */
export async function revokeToken(
  server: AuthorizationServer & { accessTokens: AccessTokens },
  context: WriteContext,
  caller: Caller,
  token: string,
): Promise<void> {
  const revoked = token.startsWith('rt_')
    ? await revokeRefreshToken(server, context, caller, token)
    : await revokeAccessToken(server, context, caller, token);
  if (revoked !== undefined) server.revocations.learn(revoked);
}

async function revokeAccessToken(
  server: AuthorizationServer & { accessTokens: AccessTokens },
  context: WriteContext,
  caller: Caller,
  text: string,
): Promise<string | undefined> {
  const token = await server.accessTokens.verify(text);
  if (!token || !(await mayEnd(server, caller, token.agentId))) return undefined;
  const { jti, agentId, expiresAt } = token;
  await write(context, async (sql, now) => {
    const isNew = await insertRevokedToken(sql, { jti, agentId, expiresAt, now });
    if (isNew) await notifyTokensRevoked(sql);
    const audit = { action: 'agent.token_revoked', resource: agentId, data: { jti } };
    return { result: undefined, audit: isNew ? audit : null };
  });
  return jti;
}

async function revokeRefreshToken(
  server: AuthorizationServer,
  context: WriteContext,
  caller: Caller,
  text: string,
): Promise<string | undefined> {
  const token = readRefreshToken(text);
  const family = token && (await findFamily(server.db, token.familyId));
  if (!token || !family || !(await mayEnd(server, caller, family.agentId))) return undefined;
  // One that was used already still shows whose family it is.
  const isOfFamily =
    equalDigests(token.hash, family.tokenHash) || (await findSpentToken(server.db, family.id, token.hash));
  if (!isOfFamily) return undefined;
  await write(context, async (sql, now) => {
    const isNew = await revokeFamily(sql, family.id, now);
    if (isNew) await notifyTokensRevoked(sql);
    const audit = {
      action: 'agent.refresh_family_revoked',
      resource: family.agentId,
      data: { family: family.id },
    };
    return { result: undefined, audit: isNew ? audit : null };
  });
  return family.id;
}
