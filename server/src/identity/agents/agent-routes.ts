import type { Static } from 'typebox';
import { defineRoute, type Route } from '../../http/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { isAgentId } from '../../kernel/ids.ts';
import type { JsonObject } from '../../kernel/json.ts';
import { limits } from '../../kernel/limits.ts';
import { rotateSecret } from '../credentials/rotate-secret.ts';
import { showSecret } from '../credentials/shown-secret.ts';
import { listAgents } from './agents.sql.ts';
import { createAgent } from './create-agent.ts';
import { deleteAgent } from './delete-agent.ts';
import { getLinkedAgent, parseAgentId } from './owned-agent.ts';
import { presentAgent, presentUsage } from './present-agent.ts';
import {
  AgentActionBody,
  AgentList,
  AgentParams,
  AgentView,
  CreateAgentBody,
  CreatedAgent,
  ListAgentsQuery,
  NoContent,
  RotatedSecret,
  UpdateAgentBody,
  UsageView,
} from './schemas.ts';
import { type AgentPatch, changeAgent } from './update-agent.ts';

const management = { auth: ['api_key', 'person'], scopes: ['agents:write'], limit: 'write' } as const;
const reading = { auth: ['api_key', 'person'], scopes: ['agents:read'], limit: 'read' } as const;

/** The agents of an environment: those that it owns, and those that it is linked to. */
export function agentRoutes(): Route[] {
  return [
    defineRoute({
      ...management,
      id: 'agent.create',
      summary: 'Create an agent, with its first secret',
      method: 'POST',
      path: '/v1/agents',
      status: 201,
      schema: { body: CreateAgentBody, response: CreatedAgent },
      errors: ['not_found'],
      handler: async ({ principal, body, context }) => {
        if (body.ownerOrgId !== undefined && body.ownerOrgId !== principal.organisationId)
          throw new AppError('not_found', 'ownerOrgId is no organisation of yours');
        const { agent, ...made } = await createAgent(context, principal.environmentId, {
          name: body.name,
          type: body.type ?? null,
          description: body.description ?? '',
          scopes: readScopes(body.scopes ?? []),
          tags: body.tags ?? [],
          metadata: readMetadata(body.metadata ?? {}),
          selfRotation: body.self_rotation ?? true,
          expiresInSeconds: body.expires_in ?? null,
        });
        const now = context.clock.now();
        const { id, clientId } = agent;
        return {
          id,
          agent_id: id,
          client_id: clientId,
          ...showSecret(made),
          agent: presentAgent({ ...agent, stoppedAt: null }, principal.environmentId, now),
        };
      },
    }),

    defineRoute({
      ...reading,
      id: 'agent.list',
      summary: 'The agents of the environment, newest first',
      method: 'GET',
      path: '/v1/agents',
      status: 200,
      schema: { query: ListAgentsQuery, response: AgentList },
      errors: [],
      handler: async ({ principal, query, context }) => {
        const limit = query.limit ?? limits.pageSizeDefault;
        const { environmentId } = principal;
        const rows = await listAgents(context.db, {
          environmentId,
          before: readCursor(query.cursor),
          limit: limit + 1,
          search: query.q ?? null,
          tags: query.tags?.split(',') ?? [],
          status: query.status ?? null,
        });
        const page = rows.slice(0, limit);
        const has_more = rows.length > limit;
        return {
          data: page.map((agent) => presentAgent(agent, environmentId, context.clock.now())),
          has_more,
          next_cursor: has_more ? (page.at(-1)?.id ?? null) : null,
        };
      },
    }),

    defineRoute({
      ...reading,
      id: 'agent.get',
      summary: 'An agent',
      method: 'GET',
      path: '/v1/agents/:agentId',
      status: 200,
      schema: { params: AgentParams, response: AgentView },
      errors: [],
      handler: async ({ principal: { environmentId }, params, context }) => {
        const agent = await getLinkedAgent(context.db, environmentId, parseAgentId(params.agentId));
        return presentAgent(agent, environmentId, context.clock.now());
      },
    }),

    defineRoute({
      ...management,
      id: 'agent.update',
      summary: 'Change what is named, and leave the rest',
      method: 'PATCH',
      path: '/v1/agents/:agentId',
      status: 200,
      schema: { params: AgentParams, body: UpdateAgentBody, response: AgentView },
      errors: ['conflict'],
      handler: async ({ principal: { environmentId }, params, body, context }) => {
        const id = parseAgentId(params.agentId);
        const agent = await changeAgent(context, environmentId, id, readPatch(body));
        return presentAgent(agent, environmentId, context.clock.now());
      },
    }),

    defineRoute({
      ...management,
      id: 'agent.rotate',
      summary: "Replace the agent's secret; the old one stops at once, or after grace_seconds",
      method: 'POST',
      path: '/v1/agents/:agentId',
      status: 200,
      schema: { params: AgentParams, body: AgentActionBody, response: RotatedSecret },
      errors: ['conflict'],
      handler: async ({ principal, params, body, context }) => {
        const id = parseAgentId(params.agentId);
        const rotation = await rotateSecret(context, principal.environmentId, id, body.grace_seconds ?? 0);
        return {
          agent_id: id,
          credential_id: rotation.credential.id,
          rotated_from: rotation.credential.rotatedFrom,
          ...showSecret(rotation),
        };
      },
    }),

    defineRoute({
      ...management,
      id: 'agent.delete',
      summary: 'End an agent for good',
      method: 'DELETE',
      path: '/v1/agents/:agentId',
      status: 204,
      schema: { params: AgentParams, response: NoContent },
      errors: [],
      handler: async ({ principal, params, context }) => {
        await deleteAgent(context, principal.environmentId, parseAgentId(params.agentId));
        return null;
      },
    }),

    defineRoute({
      ...reading,
      id: 'agent.usage',
      summary: 'What an agent has done',
      method: 'GET',
      path: '/v1/agents/:agentId/usage',
      status: 200,
      schema: { params: AgentParams, response: UsageView },
      errors: [],
      handler: async ({ principal: { environmentId }, params, context }) => {
        const agent = await getLinkedAgent(context.db, environmentId, parseAgentId(params.agentId));
        return presentUsage(context.db, agent, environmentId, context.clock.now());
      },
    }),
  ];
}

/** A cursor that isn't ours leads nowhere, and is no fault of the form. */
function readCursor(text: string | undefined) {
  if (text === undefined) return null;
  if (!isAgentId(text)) throw new AppError('invalid_request', 'cursor must be the next_cursor of a page');
  return text;
}

function readMetadata(metadata: Record<string, unknown>): JsonObject {
  if (Buffer.byteLength(JSON.stringify(metadata)) > limits.agentMetadataBytes) {
    throw new AppError('invalid_request', 'metadata must have 10 KiB at most', {
      errors: [{ field: 'metadata', message: 'must have 10 KiB at most' }],
    });
  }
  return metadata as JsonObject;
}

/** Each is short enough; all of them come with every token. */
function readScopes(scopes: string[]): string[] {
  if (scopes.join(' ').length <= limits.agentScopeCharacters) return scopes;
  const message = `must have ${limits.agentScopeCharacters} characters at most, spaces between them included`;
  throw new AppError('invalid_request', `scopes ${message}`, { errors: [{ field: 'scopes', message }] });
}

function readPatch(body: Static<typeof UpdateAgentBody>): AgentPatch {
  const { metadata, scopes, expires_at, self_rotation, refresh_without_client_auth, sender_bound, ...same } =
    body;
  return {
    ...same,
    ...(scopes === undefined ? {} : { scopes: readScopes(scopes) }),
    ...(metadata === undefined ? {} : { metadata: readMetadata(metadata) }),
    ...(expires_at === undefined ? {} : { expiresAt: readTime(expires_at) }),
    ...(self_rotation === undefined ? {} : { selfRotation: self_rotation }),
    ...(refresh_without_client_auth === undefined
      ? {}
      : { refreshWithoutClientAuth: refresh_without_client_auth }),
    ...(sender_bound === undefined ? {} : { senderBound: sender_bound }),
  };
}

/** RFC 3339 has times that no clock here can show, such as a leap second; and nobody needs an end of five digits. */
function readTime(text: string | null): Date | null {
  if (text === null) return null;
  const time = new Date(text);
  const year = time.getUTCFullYear();
  if (year >= 1970 && year <= 9999) return time;
  throw new AppError('invalid_request', 'expires_at must be a time from 1970 to 9999', {
    errors: [{ field: 'expires_at', message: 'must be a time from 1970 to 9999' }],
  });
}
