import type { Principal } from '../../http/index.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId, ApiKeyId, EnvironmentId } from '../../kernel/ids.ts';
import { authenticateClient, endedCredential } from './authenticate-client.ts';
import type { AuthorizationServer, OAuthRequest } from './authorization-server.ts';
import type { ClientParameters } from './client-proof.ts';
import { isCredentialGood } from './clients.sql.ts';
import { findLink } from '../links/agent-links.sql.ts';

/** Who asks about a token, or wants one ended. */
export type Caller =
  | { kind: 'client'; agentId: AgentId }
  | { kind: 'api_key'; apiKeyId: ApiKeyId; environmentId: EnvironmentId };

type ApiKey = Extract<Principal, { kind: 'api_key' }>;

/**
 * Authenticates a caller of introspection or revocation: a client as at the token endpoint, or an API key in a header of ours or as
 * `Bearer`. Throws `invalid_client`, and `forbidden` where the key lacks the scope.
 */
export async function authenticateCaller(
  server: AuthorizationServer,
  findApiKey: (key: string) => Promise<Principal | undefined>,
  request: OAuthRequest & { apiKeys: readonly string[] },
  body: ClientParameters,
  scope: string,
): Promise<Caller> {
  const bearer = /^Bearer +(\S+)$/i.exec(request.authorization ?? '')?.[1];
  const [key = bearer, ...others] = request.apiKeys;
  if (key === undefined) {
    const { client, credentialId, method } = await authenticateClient(server, request, body);
    // What a process remembers may be some seconds old, and nothing that follows asks for the credential again.
    if (!(await isCredentialGood(server.db, credentialId, server.clock.now()))) throw endedCredential(method);
    return { kind: 'client', agentId: client.agentId };
  }
  if (body.client_secret !== undefined || body.client_assertion !== undefined)
    throw new AppError('invalid_request', 'Authenticate in one way, not in several');
  if (others.length > 0 || (request.apiKeys.length > 0 && request.authorization !== undefined))
    throw new AppError('invalid_request', 'Authenticate in one way, not in several');
  const { origin } = request;
  const attempt = { address: origin.clientAddress ?? '', clientId: '' };
  if (!server.knownApiKeys.has(key)) server.guessGuard.admit(attempt, server.clock.now());
  const found = (await findApiKey(key)) as ApiKey | undefined;
  if (!found) {
    server.knownApiKeys.forget(key);
    const refusal = { origin, action: 'agent.token_refused', clientName: '', method: 'api_key' } as const;
    await server.guessGuard.failed(attempt, server.clock.now(), refusal);
    throw new AppError('invalid_client', 'The API key is not good', {
      headers: { 'www-authenticate': 'Bearer realm="credence", error="invalid_token"' },
    });
  }
  server.knownApiKeys.add(key);
  if (!found.scopes.includes(scope)) throw new AppError('forbidden', `The API key lacks the scope ${scope}`);
  return { kind: 'api_key', apiKeyId: found.apiKeyId, environmentId: found.environmentId };
}

/** Whether a token of this agent is the caller's to end: its own, or one of an agent of its environment. */
export async function mayEnd(
  server: AuthorizationServer,
  caller: Caller,
  agentId: AgentId,
): Promise<boolean> {
  if (caller.kind === 'client') return caller.agentId === agentId;
  return (await findLink(server.db, caller.environmentId, agentId)) !== undefined;
}

/** As `mayEnd`, to be told that it is active: for whoever has stopped the agent, no token of it is. */
export async function mayBelieve(
  server: AuthorizationServer,
  caller: Caller,
  agentId: AgentId,
): Promise<boolean> {
  if (caller.kind === 'client') return caller.agentId === agentId;
  return (await findLink(server.db, caller.environmentId, agentId))?.stoppedAt === null;
}
