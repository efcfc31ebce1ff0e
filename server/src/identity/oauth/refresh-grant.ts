import type { WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { bareRefreshToken } from '../credentials/guess-guard.ts';
import type { TokenAnswer } from './answer.ts';
import { type AuthenticatedClient, authenticateClient } from './authenticate-client.ts';
import type { AuthorizationServer, OAuthRequest } from './authorization-server.ts';
import { readClientProof } from './client-proof.ts';
import type { GrantParameters } from './grant-client-credentials.ts';
import { rotateRefreshToken } from './rotate-refresh-token.ts';
import { readSenderKey } from './sender-binding.ts';

/** The parameters of RFC 6749 section 6. */
export interface RefreshParameters extends GrantParameters {
  refresh_token?: string;
}

/**
 * Refreshes for a client that authenticates. `bare` takes the refresh token alone where nothing else was sent, as seed 003 has it; the
 * owner of an agent may turn that off.
 */
export async function grantRefresh(
  server: AuthorizationServer,
  request: OAuthRequest & { context: WriteContext },
  body: RefreshParameters,
  options: { bare: boolean },
): Promise<TokenAnswer> {
  const { refresh_token: refreshToken, scope, resource } = body;
  if (refreshToken === undefined) throw new AppError('invalid_request', 'refresh_token is missing');
  if (Array.isArray(resource) && resource.length > 1)
    throw new AppError('invalid_target', 'Name one resource: ask for a token for each');
  const authenticated = await findClient(server, request, body, options.bare);
  // Who shows a client was let through by its credential; a bare token is the one thing that could be guessed here.
  const guess = { address: request.origin.clientAddress ?? '', clientId: bareRefreshToken };
  if (!authenticated) await server.guessGuard.admit(guess, server.clock.now());
  const keyThumbprint = await readSenderKey(server, request);
  const agentId = authenticated?.client.agentId;
  const { context } = request;
  const answer = await rotateRefreshToken(
    server,
    agentId === undefined ? context : { ...context, actor: { kind: 'agent', id: agentId } },
    {
      refreshToken,
      client: authenticated && { ...authenticated, agentId: authenticated.client.agentId },
      clientId: body.client_id,
      scope,
      resource: Array.isArray(resource) ? resource[0] : resource,
      keyThumbprint,
      onUnknown: (clientName) =>
        server.guessGuard.failed(guess, server.clock.now(), {
          origin: request.origin,
          action: 'agent.refresh_refused',
          clientName,
          method: 'none',
        }),
    },
  );
  return answer;
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
