import type { Sql } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { findResourceForAgent } from './resources.sql.ts';

/** Whom a token is for, and what of an agent's scopes it may have there. */
export interface Audience {
  identifier: string;
  limit(scopes: readonly string[]): readonly string[];
}

/**
 * Reads the `resource` of a request (RFC 8707 section 2): this server itself where none is named. One token is for one resource, as a
 * token for two can be replayed by one of them at the other. Throws `invalid_target`.
 */
export async function findAudience(
  server: { db: Sql; issuer: string },
  client: { agentId: AgentId },
  asked: string | readonly string[] | undefined,
): Promise<Audience> {
  const all = asked === undefined ? [] : [asked].flat();
  if (all.length > 1) throw new AppError('invalid_target', 'Name one resource: ask for a token for each');
  const [identifier] = all;
  if (identifier === undefined || isSameResource(identifier, server.issuer))
    return { identifier: server.issuer, limit: (scopes) => scopes };
  const resource = await findResourceForAgent(server.db, client.agentId, identifier);
  if (!resource)
    throw new AppError(
      'invalid_target',
      'The resource is not registered in an environment of this agent, or its environment has stopped the agent: its owner does the one with POST /v1/resources, and ends the other with POST /v1/agents/{id}/reactivate',
    );
  const { scopes: known } = resource;
  return {
    identifier: resource.identifier,
    limit: (scopes) => (known.length === 0 ? scopes : scopes.filter((scope) => known.includes(scope))),
  };
}

/** Some clients send every identifier through a URL parser, which gives a bare origin a slash. */
function isSameResource(asked: string, issuer: string): boolean {
  return asked === issuer || asked === `${issuer}/`;
}
