import type { Origin, WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { refreshTokens } from '../credentials/guess-guard.ts';
import type { TokenAnswer } from './answer.ts';
import { type AuthenticatedClient, authenticateClient } from './authenticate-client.ts';
import type { AuthorizationServer, OAuthRequest } from './authorization-server.ts';
import { readClientProof } from './client-proof.ts';
import type { GrantParameters } from './grant-client-credentials.ts';
import { type Refresh, rotateRefreshToken } from './rotate-refresh-token.ts';
import { readSenderKey } from './sender-binding.ts';

/** The parameters of RFC 6749 section 6. */
export interface RefreshParameters extends GrantParameters {
  refresh_token?: string;
}

/**
 * Refreshes for a client that authenticates. `bare` takes the refresh token alone where nothing else was sent, for clients that keep nothing else; the
 * owner of an agent may turn that off.
 */
export async function grantRefresh(
  server: AuthorizationServer,
  request: OAuthRequest & { context: WriteContext },
  body: RefreshParameters,
  options: { bare: boolean },
): Promise<TokenAnswer> {
  const { refresh_token: refreshToken, resource } = body;
  if (refreshToken === undefined) throw new AppError('invalid_request', 'refresh_token is missing');
  if (Array.isArray(resource) && resource.length > 1)
    throw new AppError('invalid_target', 'Name one resource: ask for a token for each');
  const authenticated = await findClient(server, request, body, options.bare);
  if (authenticated) {
    const { credentialId, method, client } = authenticated;
    const context = { ...request.context, actor: { kind: 'agent' as const, id: client.agentId } };
    return rotateRefreshToken(server, context, {
      ...readRefresh(refreshToken, body),
      client: { agentId: client.agentId, credentialId, method },
      keyThumbprint: await readSenderKey(server, request),
      // Whoever it is: anybody may register a client, and guess with that.
      onRefused: countRefusal(server, { ...request.origin, actor: context.actor }, method),
    });
  }
  return grantBare(server, request, readRefresh(refreshToken, body));
}

function readRefresh(refreshToken: string, { client_id, scope, resource }: RefreshParameters) {
  return {
    refreshToken,
    clientId: client_id,
    scope,
    resource: Array.isArray(resource) ? resource[0] : resource,
  };
}

/** Nobody has shown who it is: what is wrong with the token, or with its proof, is counted for the address. */
async function grantBare(
  server: AuthorizationServer,
  request: OAuthRequest & { context: WriteContext },
  refresh: ReturnType<typeof readRefresh>,
): Promise<TokenAnswer> {
  const { clock, guessGuard } = server;
  const attempt = attemptOf(request.origin);
  const count = countRefusal(server, request.origin, 'none');
  guessGuard.admit(attempt, clock.now());
  const keyThumbprint = await readSenderKey(server, request).catch(async (error: unknown) => {
    if (error instanceof AppError && error.code === 'invalid_dpop_proof')
      await count('unknown', error.message);
    throw error;
  });
  const answer = await rotateRefreshToken(server, request.context, {
    ...refresh,
    client: undefined,
    keyThumbprint,
    onRefused: count,
  });
  guessGuard.succeeded(attempt);
  return answer;
}

/** Counts a refused refresh for the address that it came from. Throws `rate_limited` instead, and writes nothing, where it comes too soon. */
function countRefusal(
  { clock, guessGuard }: AuthorizationServer,
  origin: Origin,
  method: string,
): Refresh['onRefused'] {
  const action = 'agent.refresh_refused';
  return (clientName, reason) =>
    guessGuard.failed(attemptOf(origin), clock.now(), { origin, action, clientName, method, reason });
}

function attemptOf({ clientAddress }: Origin) {
  return { address: clientAddress ?? '', clientId: refreshTokens };
}

async function findClient(
  server: AuthorizationServer,
  request: OAuthRequest,
  body: RefreshParameters,
  bare: boolean,
): Promise<AuthenticatedClient | undefined> {
  const isBare = readClientProof(request.authorization, body).method === 'none';
  return bare && isBare ? undefined : authenticateClient(server, request, body);
}
