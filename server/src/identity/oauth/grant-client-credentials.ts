import { AppError } from '../../kernel/errors.ts';
import { familyTime, isLive } from '../agents/agent.ts';
import { familyEnd, makeAnswer, newFamilyId, type TokenAnswer } from './answer.ts';
import { type AuthenticatedClient, authenticateClient, endedCredential } from './authenticate-client.ts';
import type { AuthorizationServer, OAuthRequest } from './authorization-server.ts';
import type { ClientParameters } from './client-proof.ts';
import type { RefreshFamily } from './refresh-families.sql.ts';
import { newRefreshToken } from './refresh-token.ts';
import { findAudience } from './audience.ts';
import { grantScope } from './scope.ts';
import { demandSenderKey, readSenderKey } from './sender-binding.ts';

/** The parameters of a grant besides those of the client. */
export interface GrantParameters extends ClientParameters {
  scope?: string;
  resource?: string | string[];
}

/** RFC 6749 section 4.4: a client's tokens for itself. A refresh token comes with them, for clients that expect one. */
export async function grantClientCredentials(
  server: AuthorizationServer,
  request: OAuthRequest,
  body: GrantParameters,
): Promise<TokenAnswer> {
  let authenticated = await authenticateClient(server, request, body);
  const { client } = authenticated;
  await server.grantLimit.admit(client, client.agentId);
  const keyThumbprint = await readSenderKey(server, request);
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    const answer = await tryGrant(server, request, { authenticated, keyThumbprint, body });
    if (answer) {
      server.usage.count(authenticated.client.agentId, 'token');
      return answer;
    }
    // What was remembered of the client is old. Its credential was shown, and is now looked up.
    authenticated = await authenticateAgain(server, authenticated);
  }
  throw new AppError('unavailable', 'The agent is being changed: send the request again');
}

async function tryGrant(
  server: AuthorizationServer,
  request: OAuthRequest,
  given: { authenticated: AuthenticatedClient; keyThumbprint: string | null; body: GrantParameters },
): Promise<TokenAnswer | undefined> {
  const { keyThumbprint, body } = given;
  const { client, credentialId, method } = given.authenticated;
  demandSenderKey(client, keyThumbprint);
  const audience = await findAudience(server, client, body.resource);
  const scope = grantScope(body.scope, audience.limit(client.scopes));
  const now = server.clock.now();
  const id = newFamilyId();
  const { text, hash } = newRefreshToken(id);
  const family: RefreshFamily = {
    id,
    agentId: client.agentId,
    credentialId,
    scope,
    resource: audience.identifier,
    keyThumbprint,
    tokenHash: hash,
    generation: 0,
    createdAt: familyTime(client, now),
    expiresAt: familyEnd(client, now),
  };
  const [answer, isCommitted] = await Promise.all([
    makeAnswer(server, { agent: client, family, scope, refreshToken: text, now }),
    server.lane.submit({ family, agentUpdatedAt: client.updatedAt, method, origin: request.origin }),
  ]);
  return isCommitted ? answer : undefined;
}

async function authenticateAgain(
  server: AuthorizationServer,
  earlier: AuthenticatedClient,
): Promise<AuthenticatedClient> {
  server.clients.forget(earlier.client.agentId);
  const client = await server.clients.look(earlier.client.agentId);
  const now = server.clock.now();
  const credential = [...(client?.secrets ?? []), ...(client?.keys ?? [])].find(
    ({ credentialId, expiresAt }) =>
      credentialId === earlier.credentialId && (expiresAt === null || now < expiresAt),
  );
  if (!client || !credential || !isLive(client, now)) throw endedCredential(earlier.method);
  return { ...earlier, client };
}
