import { defineRoute, type Route } from '../../http/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { isId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { getLinkedAgent, parseAgentId } from '../agents/owned-agent.ts';
import { presentCredential } from '../agents/present-agent.ts';
import {
  AgentParams,
  CreateCredentialBody,
  CreatedCredential,
  CredentialList,
  CredentialParams,
  ListCredentialsQuery,
  NoContent,
} from '../agents/schemas.ts';
import { addPublicKey, addSecret } from './add-credential.ts';
import { listCredentials } from './credentials.sql.ts';
import { parsePublicKey } from './public-key.ts';
import { revokeCredential } from './revoke-credential.ts';
import { showSecret } from './shown-secret.ts';

const management = { auth: ['api_key', 'person'], scopes: ['agents:write'], limit: 'write' } as const;

/** What the agents of an environment prove themselves with. */
export function credentialRoutes(): Route[] {
  return [
    defineRoute({
      ...management,
      id: 'agent_credential.create',
      summary: 'Give an agent another secret, or a public key',
      method: 'POST',
      path: '/v1/agents/:agentId/credentials',
      status: 201,
      schema: { params: AgentParams, body: CreateCredentialBody, response: CreatedCredential },
      errors: ['conflict'],
      handler: async ({ principal: { environmentId }, params, body, context }) => {
        const id = parseAgentId(params.agentId);
        const isKey = body.type === 'public_key';
        if (isKey !== (body.public_key !== undefined))
          throw new AppError('invalid_request', 'public_key belongs to the type public_key, and to no other');
        if (isKey && body.public_key !== undefined) {
          const jwk = parsePublicKey(body.public_key);
          const key = await addPublicKey(context, environmentId, id, jwk);
          return presentCredential(key, context.clock.now());
        }
        const made = await addSecret(context, environmentId, id);
        return { ...presentCredential(made.credential, context.clock.now()), ...showSecret(made) };
      },
    }),

    defineRoute({
      id: 'agent_credential.list',
      summary: 'The credentials of an agent, newest first, and what became of them',
      method: 'GET',
      path: '/v1/agents/:agentId/credentials',
      auth: ['api_key', 'person'],
      scopes: ['agents:read'],
      limit: 'read',
      status: 200,
      schema: { params: AgentParams, query: ListCredentialsQuery, response: CredentialList },
      errors: [],
      handler: async ({ principal, params, query, context }) => {
        const id = parseAgentId(params.agentId);
        await getLinkedAgent(context.db, principal.environmentId, id);
        const limit = query.limit ?? limits.pageSizeDefault;
        const before = readCursor(query.cursor);
        const rows = await listCredentials(context.db, { agentId: id, before, limit: limit + 1 });
        const page = rows.slice(0, limit);
        const has_more = rows.length > limit;
        return {
          data: page.map((row) => presentCredential(row, context.clock.now())),
          has_more,
          next_cursor: has_more ? (page.at(-1)?.id ?? null) : null,
        };
      },
    }),

    defineRoute({
      ...management,
      id: 'agent_credential.revoke',
      summary: 'End a credential at once',
      method: 'DELETE',
      path: '/v1/agents/:agentId/credentials/:credentialId',
      status: 204,
      schema: { params: CredentialParams, response: NoContent },
      errors: [],
      handler: async ({ principal, params, context }) => {
        const id = parseAgentId(params.agentId);
        await revokeCredential(context, principal.environmentId, id, params.credentialId);
        return null;
      },
    }),
  ];
}

function readCursor(text: string | undefined) {
  if (text === undefined) return null;
  if (!isId('credential', text))
    throw new AppError('invalid_request', 'cursor must be the next_cursor of a page');
  return text;
}
