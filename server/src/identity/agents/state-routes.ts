import type { WriteContext } from '../../db/index.ts';
import { defineRoute, type Route } from '../../http/index.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import type { LinkedAgent } from './agent.ts';
import { deactivateAgent, startAgent, stopAgent } from './change-agent-state.ts';
import { parseAgentId } from './owned-agent.ts';
import { presentAgent } from './present-agent.ts';
import { AgentParams, AgentView, NoFields, StoppedAgents } from './schemas.ts';
import { stopAllAgents } from './stop-all-agents.ts';

const management = {
  auth: ['api_key', 'person'],
  scopes: ['agents:write'],
  limit: 'write',
  method: 'POST',
  status: 200,
} as const;

/** Stopping agents, and starting them again. */
export function stateRoutes(): Route[] {
  return [
    action(
      'stop',
      'Stop an agent now: its tokens are dead, and it gets nothing of the environment until you start it again',
      stopAgent,
    ),
    action('reactivate', 'Start an agent again that you have stopped or deactivated', startAgent),
    action('deactivate', 'Deactivate an agent, its tokens included', deactivateAgent),

    defineRoute({
      ...management,
      id: 'agent.stop_all',
      summary: 'Stop every agent of the environment now',
      path: '/v1/agents/stop-all',
      schema: { body: NoFields, response: StoppedAgents },
      errors: [],
      handler: async ({ principal, context }) => ({
        stopped: await stopAllAgents(context, principal.environmentId),
      }),
    }),
  ];
}

function action(
  name: string,
  summary: string,
  run: (context: WriteContext, environmentId: EnvironmentId, id: AgentId) => Promise<LinkedAgent>,
): Route {
  return defineRoute({
    ...management,
    id: `agent.${name}`,
    summary,
    path: `/v1/agents/:agentId/${name}`,
    schema: { params: AgentParams, body: NoFields, response: AgentView },
    errors: [],
    handler: async ({ principal: { environmentId }, params, context }) => {
      const agent = await run(context, environmentId, parseAgentId(params.agentId));
      return presentAgent(agent, environmentId, context.clock.now());
    },
  });
}
