import type { Sql } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { type AgentId, type EnvironmentId, isAgentId } from '../../kernel/ids.ts';
import { isOwnedBy, type LinkedAgent } from './agent.ts';
import { findLinkedAgent } from './agents.sql.ts';

/** An agent's id from a path. Throws `not_found` for what is none: it names nothing here. */
export function parseAgentId(text: string): AgentId {
  if (!isAgentId(text)) throw unknownAgent();
  return text;
}

/** Throws `not_found` where the environment isn't linked to it. */
export async function getLinkedAgent(
  sql: Sql,
  environmentId: EnvironmentId,
  id: AgentId,
  lock = false,
): Promise<LinkedAgent> {
  const agent = await findLinkedAgent(sql, environmentId, id, lock);
  if (!agent) throw unknownAgent();
  return agent;
}

/** As `getLinkedAgent`, locked; throws `forbidden` where the environment may see the agent but doesn't own it. */
export async function lockOwnedAgent(
  sql: Sql,
  environmentId: EnvironmentId,
  id: AgentId,
): Promise<LinkedAgent> {
  const agent = await getLinkedAgent(sql, environmentId, id, true);
  if (isOwnedBy(agent, environmentId)) return agent;
  // Its credentials open whatever else it is linked to, so that being linked to it gives no hold on them.
  throw new AppError(
    'forbidden',
    'The agent belongs to itself or to another environment: here it may be seen, stopped and started, and no more',
  );
}

function unknownAgent(): AppError {
  return new AppError('not_found', 'There is no such agent');
}
