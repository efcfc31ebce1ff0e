import { Type } from 'typebox';
import { defineRoute, type Route } from '../../http/index.ts';
import { presentAgent } from '../agents/present-agent.ts';
import { AgentView, NoFields } from '../agents/schemas.ts';
import { approveLink, getLinkRequest, refuseLink } from './answer-link-request.ts';

const Params = Type.Object({ linkId: Type.String() });
const Time = Type.String({ format: 'date-time' });
const ApproveBody = Type.Object(
  {
    user_code: Type.String({ minLength: 1, maxLength: 40, description: 'What the agent shows to its user' }),
  },
  { additionalProperties: false },
);
const LinkRequestView = Type.Object({
  id: Type.String(),
  agent_id: Type.String(),
  agent_name: Type.String({ description: "In the agent's own words, unverified" }),
  client_info: Type.String({ description: "In the agent's own words, unverified" }),
  registered_at: Time,
  asked_from: Type.Union([Type.String(), Type.Null()], { description: 'The address that it asked from' }),
  created_at: Time,
  expires_at: Time,
});

/** Where a person sees which agent asks to be linked, and answers. */
export function linkRoutes(): Route[] {
  return [
    defineRoute({
      id: 'agent_link.get',
      summary: 'Which agent asks to be linked; looking has no effect',
      method: 'GET',
      path: '/v1/agent-links/:linkId',
      auth: ['person'],
      scopes: [],
      limit: 'read',
      status: 200,
      schema: { params: Params, response: LinkRequestView },
      errors: [],
      handler: async ({ params, context }) => {
        const { request, agent } = await getLinkRequest(context.db, params.linkId, context.clock.now());
        return {
          id: request.id,
          agent_id: agent.id,
          agent_name: agent.name,
          client_info: agent.clientInfo,
          registered_at: agent.createdAt.toISOString(),
          asked_from: request.clientAddress,
          created_at: request.createdAt.toISOString(),
          expires_at: request.expiresAt.toISOString(),
        };
      },
    }),

    defineRoute({
      id: 'agent_link.approve',
      summary: 'Link the agent to your environment; it may spend nothing yet',
      method: 'POST',
      path: '/v1/agent-links/:linkId/approve',
      auth: ['person'],
      scopes: [],
      limit: 'write',
      status: 200,
      schema: { params: Params, body: ApproveBody, response: AgentView },
      errors: ['conflict'],
      handler: async ({ principal: { environmentId }, params, body, context }) => {
        const agent = await approveLink(context, params.linkId, { environmentId, userCode: body.user_code });
        return presentAgent({ ...agent, stoppedAt: null }, environmentId, context.clock.now());
      },
    }),

    defineRoute({
      id: 'agent_link.refuse',
      summary: 'Refuse: the address leads nowhere any more',
      method: 'POST',
      path: '/v1/agent-links/:linkId/refuse',
      auth: ['person'],
      scopes: [],
      limit: 'write',
      status: 200,
      schema: { params: Params, body: NoFields, response: Type.Object({ agent_id: Type.String() }) },
      errors: [],
      handler: async ({ params, context }) => ({ agent_id: (await refuseLink(context, params.linkId)).id }),
    }),
  ];
}
