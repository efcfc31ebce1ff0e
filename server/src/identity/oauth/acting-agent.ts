import type { Sql } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { type Agent, acceptsTokenOf } from '../agents/agent.ts';
import { beginActing, findAgent, lockAgent } from '../agents/agents.sql.ts';
import { findLink } from '../links/agent-links.sql.ts';
import { familyOfTokenId } from './refresh-token.ts';
import { isRevoked } from './revocations.sql.ts';

/** An agent that acts, by the access token that let its request in. */
export interface ActingAgent {
  agentId: AgentId;
  /** `jti` and `iat` (unix seconds). */
  token: { id: string; iat: number };
}

/**
 * The agent that acts, its row held. What let the request in is knowledge that may be some seconds old, and what the agent then gets
 * may last for years: so the transaction that gives it asks the row itself. Throws `unauthorized` where the token is dead.
 */
export async function lockActingAgent(sql: Sql, acting: ActingAgent, now: Date): Promise<Agent> {
  return demand(await ifAccepted(sql, acting, await lockAgent(sql, acting.agentId), now));
}

/** As `lockActingAgent`, where requests of an agent need not wait for one another: a stop that isn't committed yet isn't seen. */
export async function getActingAgent(sql: Sql, acting: ActingAgent, now: Date): Promise<Agent> {
  return demand(await findActingAgent(sql, acting, now));
}

/** As `getActingAgent`; nothing where the token is dead. */
export async function findActingAgent(sql: Sql, acting: ActingAgent, now: Date): Promise<Agent | undefined> {
  return ifAccepted(sql, acting, await findAgent(sql, acting.agentId), now);
}

/**
 * As `findActingAgent`, in an environment; nothing where that isn't linked to the agent, or has stopped it. Stops wait until the transaction
 * ends, and it for those that wait already: whatever follows from a stop finds all that the agent got before.
 */
export async function findAgentActingIn(
  sql: Sql,
  environmentId: EnvironmentId,
  acting: ActingAgent,
  now: Date,
): Promise<Agent | undefined> {
  await beginActing(sql, acting.agentId);
  const link = await findLink(sql, environmentId, acting.agentId);
  return link?.stoppedAt === null ? findActingAgent(sql, acting, now) : undefined;
}

async function ifAccepted(
  sql: Sql,
  { token }: ActingAgent,
  agent: Agent | undefined,
  now: Date,
): Promise<Agent | undefined> {
  if (!agent || !acceptsTokenOf(agent, token.iat, now)) return undefined;
  const isDead = await isRevoked(sql, { jti: token.id, familyId: familyOfTokenId(token.id) ?? null });
  return isDead ? undefined : agent;
}

function demand(agent: Agent | undefined): Agent {
  if (agent) return agent;
  throw new AppError(
    'unauthorized',
    'The token is not good any more: its agent was stopped, deactivated or deleted, or the token was revoked',
  );
}
