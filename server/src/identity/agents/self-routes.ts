import type { Sql } from '../../db/index.ts';
import { defineRoute, type Route } from '../../http/index.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { rotateOwnSecret } from '../credentials/rotate-secret.ts';
import { showSecret } from '../credentials/shown-secret.ts';
import type { Agent } from './agent.ts';
import { findAgent } from './agents.sql.ts';
import { deactivateItself } from './change-agent-state.ts';
import { presentSelf, presentUsage } from './present-agent.ts';
import { AgentView, NoFields, RotateBody, RotatedSecret, UsageView } from './schemas.ts';

/** What an agent does with itself. */
export function selfRoutes(): Route[] {
  return [
    defineRoute({
      id: 'agent.me',
      summary: 'The agent that calls',
      method: 'GET',
      path: '/v1/agents/me',
      auth: ['agent'],
      scopes: [],
      limit: 'read',
      status: 200,
      schema: { response: AgentView },
      errors: [],
      handler: async ({ principal, context }) =>
        presentSelf(await getSelf(context.db, principal.agentId), context.clock.now()),
    }),

    defineRoute({
      id: 'agent.my_usage',
      summary: 'What the agent that calls has done',
      method: 'GET',
      path: '/v1/agents/me/usage',
      auth: ['agent'],
      scopes: [],
      limit: 'read',
      status: 200,
      schema: { response: UsageView },
      errors: [],
      handler: async ({ principal, context }) => {
        const agent = await getSelf(context.db, principal.agentId);
        return presentUsage(context.db, { ...agent, stoppedAt: null }, null, context.clock.now());
      },
    }),

    defineRoute({
      id: 'agent.rotate_itself',
      summary: 'Replace your own secret; the old one stops at once, or after grace_seconds',
      method: 'POST',
      path: '/v1/agents/me/rotate',
      auth: ['agent'],
      scopes: [],
      limit: 'write',
      status: 200,
      schema: { body: RotateBody, response: RotatedSecret },
      errors: ['conflict'],
      handler: async ({ principal, body, context }) => {
        const rotation = await rotateOwnSecret(context, principal, body.grace_seconds ?? 0);
        return {
          agent_id: principal.agentId,
          credential_id: rotation.credential.id,
          rotated_from: rotation.credential.rotatedFrom,
          ...showSecret(rotation),
        };
      },
    }),

    defineRoute({
      id: 'agent.deactivate_itself',
      summary: 'Deactivate yourself, this token included; your owner may start you again',
      method: 'POST',
      path: '/v1/agents/me/deactivate',
      auth: ['agent'],
      scopes: [],
      limit: 'write',
      status: 200,
      schema: { body: NoFields, response: AgentView },
      errors: [],
      handler: async ({ principal, context }) =>
        presentSelf(await deactivateItself(context, principal), context.clock.now()),
    }),
  ];
}

async function getSelf(sql: Sql, id: AgentId): Promise<Agent> {
  const agent = await findAgent(sql, id);
  // Deleted between the look at its token and this one.
  if (!agent) throw new AppError('unauthorized', 'The agent was deleted');
  return agent;
}
