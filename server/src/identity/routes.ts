import { Type } from 'typebox';
import { defineRoute, type Principal, type Route } from '../http/index.ts';
import { AppError } from '../kernel/errors.ts';
import { tokenTime } from './agents/agent.ts';
import { agentRoutes } from './agents/agent-routes.ts';
import { selfRoutes } from './agents/self-routes.ts';
import { stateRoutes } from './agents/state-routes.ts';
import type { AgentUsage } from './agents/usage.ts';
import { credentialRoutes } from './credentials/credential-routes.ts';
import type { GuessGuard } from './credentials/guess-guard.ts';
import { registerAgent } from './agents/register-agent.ts';
import { checkAgentToken, lifeOf } from './credentials/check-agent-token.ts';
import { linkRoutes } from './links/link-routes.ts';
import type { OAuth } from './oauth/open-oauth.ts';
import { oauthRoutes } from './oauth/routes.ts';
import { AgentCredentials, RefreshBody, RegisterBody } from './schemas.ts';
import { signingKeyRoutes } from './signing-keys/routes.ts';
import type { SigningKeys } from './signing-keys/signing-keys.ts';
import type { Tokens } from './tokens/tokens.ts';
import { credentialRoutes as verifiableCredentialRoutes } from './verifiable-credentials/routes.ts';

/** What tokens are made with, and what watches over those who ask for them. */
export interface IdentityDeps {
  keys: SigningKeys;
  tokens: Tokens;
  usage: AgentUsage;
  guessGuard: GuessGuard;
  oauth: OAuth;
  issuer: string;
  findApiKey(key: string): Promise<Principal | undefined>;
}

/** Agents and their credentials, registration, fresh tokens, and the keys that verify them. */
export function identityRoutes(deps: IdentityDeps): Route[] {
  return [
    ...[...agentRoutes(), ...stateRoutes(), ...selfRoutes(), ...credentialRoutes(), ...linkRoutes()].map(
      (route) => knownAtOnce(route, deps),
    ),
    ...registrationRoutes(deps),
    ...oauthRoutes(deps),
  ];
}

/** Who was answered that an agent is stopped finds it stopped here; other processes hear of it a moment later. */
function knownAtOnce(route: Route, deps: Pick<IdentityDeps, 'oauth'>): Route {
  if (route.method === 'GET') return route;
  return {
    ...route,
    handler: async (call) => {
      const result = await route.handler(call);
      await deps.oauth.catchUp();
      return result;
    },
  };
}

function registrationRoutes(deps: IdentityDeps): Route[] {
  return [
    ...signingKeyRoutes(deps),
    ...verifiableCredentialRoutes(deps),

    defineRoute({
      id: 'agent.register',
      summary: 'Register an agent; no login needed',
      method: 'POST',
      path: '/register',
      auth: [],
      scopes: [],
      limit: 'registration',
      status: 201,
      schema: { body: RegisterBody, response: AgentCredentials },
      errors: [],
      unknownKeys: 'ignored',
      handler: async ({ body, context }) => {
        const { agent, token } = await registerAgent(context, {
          name: body.agent_name,
          clientInfo: body.client_info,
          email: body.email ?? null,
        });
        const jwt = await deps.tokens.issueAgentToken(agent.id, context.clock.now());
        deps.usage.count(agent.id, 'token');
        return { agent_id: agent.id, token, jwt };
      },
    }),

    defineRoute({
      id: 'agent.refresh',
      summary: "Get a fresh jwt for the agent's permanent token",
      method: 'POST',
      path: '/refresh',
      auth: [],
      scopes: [],
      limit: 'credential',
      status: 200,
      schema: { body: RefreshBody, response: Type.Object({ jwt: Type.String() }) },
      errors: ['forbidden', 'invalid_client'],
      unknownKeys: 'ignored',
      handler: async ({ body, context }) => {
        const { clock } = context;
        const attempt = { address: context.clientAddress ?? '', clientId: body.agent_id };
        deps.guessGuard.admit(attempt, clock.now());
        const agent = await checkAgentToken(context, { agentId: body.agent_id, token: body.token });
        const now = clock.now();
        const ttlSeconds = agent ? lifeOf(agent, now) : 0;
        if (!agent || ttlSeconds === 0) {
          await deps.guessGuard.failed(attempt, now, {
            origin: context,
            action: 'agent.token_refused',
            clientName: body.agent_id,
            method: 'token',
          });
          throw new AppError('invalid_client', 'agent_id and token do not belong to an active agent');
        }
        deps.guessGuard.succeeded(attempt);
        deps.usage.count(agent.id, 'token');
        return { jwt: await deps.tokens.issueAgentToken(agent.id, tokenTime(agent, now), ttlSeconds) };
      },
    }),
  ];
}
