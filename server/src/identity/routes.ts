import { Type } from 'typebox';
import { defineRoute, type Route } from '../http/index.ts';
import { checkAgentToken } from './refresh-agent-token.ts';
import { registerAgent } from './register-agent.ts';
import { AgentCredentials, RefreshBody, RegisterBody } from './schemas.ts';
import { signingKeyRoutes } from './signing-keys/routes.ts';
import type { SigningKeys } from './signing-keys/signing-keys.ts';
import type { Tokens } from './tokens/tokens.ts';
import { credentialRoutes } from './verifiable-credentials/routes.ts';

/** Registration, fresh tokens, and the keys that verify them. */
export function identityRoutes(deps: { keys: SigningKeys; tokens: Tokens }): Route[] {
  return [
    ...signingKeyRoutes(deps),
    ...credentialRoutes(deps),

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
      errors: ['invalid_client'],
      unknownKeys: 'ignored',
      handler: async ({ body, context }) => {
        const agent = await checkAgentToken(context, { agentId: body.agent_id, token: body.token });
        return { jwt: await deps.tokens.issueAgentToken(agent.id, context.clock.now()) };
      },
    }),
  ];
}
