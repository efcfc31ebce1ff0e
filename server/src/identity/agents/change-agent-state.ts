import { type Sql, write, type WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { type ActingAgent, lockActingAgent } from '../oauth/acting-agent.ts';
import { type Agent, deactivated, started, stopped } from './agent.ts';
import { updateAgentState } from './agents.sql.ts';
import { getLinkedAgent, lockOwnedAgent } from './owned-agent.ts';
import { tellStopped } from './tell-stopped.ts';

/**
 * Stops an agent, for whoever is linked to it: its credentials don't work until it is started again, and the tokens that it has are
 * dead for good. Stopping it twice is stopping it once.
 */
export async function stopAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: AgentId,
): Promise<Agent> {
  return write(context, async (sql, now) => {
    const agent = await getLinkedAgent(sql, environmentId, id, true);
    if (agent.suspendedBy.includes(environmentId)) return { result: agent, audit: null };
    const change = stopped(agent, environmentId);
    const written = await updateAgentState(sql, id, change, now);
    return {
      result: { ...agent, ...change, ...written },
      audit: { action: 'agent.stopped', resource: id },
      outbox: agent.status === 'active' ? await tellStopped(sql, [id]) : [],
    };
  });
}

/**
 * Starts an agent that was stopped or deactivated. Tokens that were being granted while it was stopped stay dead as well. Throws
 * `forbidden` where that is another environment's to do.
 */
export async function startAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: AgentId,
): Promise<Agent> {
  return write(context, async (sql, now) => {
    const agent = await getLinkedAgent(sql, environmentId, id, true);
    if (agent.status === 'active') return { result: agent, audit: null };
    const change = started(agent, environmentId);
    const lifted =
      change.suspendedBy.length < agent.suspendedBy.length || change.deactivatedAt !== agent.deactivatedAt;
    if (!lifted)
      throw new AppError(
        'forbidden',
        `The agent is ${agent.status}, and not by you: whoever did it may end it`,
      );
    const written = await updateAgentState(sql, id, change, now);
    return {
      result: { ...agent, ...change, ...written },
      audit: { action: 'agent.started', resource: id, data: { status: change.status } },
    };
  });
}

/** Deactivates the environment's own agent, its tokens included, until it is started again. */
export async function deactivateAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: AgentId,
): Promise<Agent> {
  return write(context, async (sql, now) =>
    deactivate(sql, await lockOwnedAgent(sql, environmentId, id), now),
  );
}

/** As `deactivateAgent`, by the agent itself. Its owner may start it again, or whoever it is linked to where it has none. */
export async function deactivateItself(context: WriteContext, acting: ActingAgent): Promise<Agent> {
  return write(context, async (sql, now) => {
    const agent = await lockActingAgent(sql, acting, now);
    const outcome = await deactivate(sql, agent, now);
    const scope = agent.homeEnvironmentId ?? ('instance' as const);
    return { ...outcome, audit: outcome.audit && { ...outcome.audit, scope } };
  });
}

async function deactivate(sql: Sql, agent: Agent, now: Date) {
  if (agent.deactivatedAt !== null) return { result: agent, audit: null };
  const change = deactivated(agent, now);
  const written = await updateAgentState(sql, agent.id, change, now);
  return {
    result: { ...agent, ...change, ...written },
    audit: { action: 'agent.deactivated', resource: agent.id },
    outbox: agent.status === 'active' ? await tellStopped(sql, [agent.id]) : [],
  };
}
