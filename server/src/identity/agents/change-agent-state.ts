import { type Sql, write, type WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { type ActingAgent, lockActingAgent } from '../oauth/acting-agent.ts';
import { type Agent, deactivated, type LinkedAgent, started, statusFor } from './agent.ts';
import { updateAgentState } from './agents.sql.ts';
import { liftStop, stopLinkedAgents } from '../links/agent-links.sql.ts';
import { endActing } from './end-acting.ts';
import { getLinkedAgent, lockOwnedAgent } from './owned-agent.ts';
import { tellEnded, tellStopped } from './tell-stopped.ts';

/**
 * Stops an agent for the environment: it gets nothing of it until this environment starts it again, and the tokens that it has are dead
 * for good, everywhere. By its home, or by the last that is linked to one without a home, it is stopped for everybody: its credentials
 * don't work. Stopping it twice is stopping it once.
 */
export async function stopAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: AgentId,
): Promise<LinkedAgent> {
  return write(context, async (sql) => {
    const agent = await getLinkedAgent(sql, environmentId, id, true);
    if (agent.stoppedAt !== null) return { result: agent, audit: null };
    const now = await endActing(sql, context, [id]);
    const stopped = await stopLinkedAgents(sql, environmentId, [id], now);
    return {
      result: await getLinkedAgent(sql, environmentId, id),
      audit: { action: 'agent.stopped', resource: id },
      outbox: await tellStopped(sql, environmentId, stopped, now),
    };
  });
}

/**
 * Starts an agent that the environment has stopped and, where the environment is its home or it has none, one that was stopped for
 * everybody or deactivated. The stops of others stand. Tokens that were being granted while nobody could use it stay dead as well.
 * Throws `forbidden` where that is another environment's to do.
 */
export async function startAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: AgentId,
): Promise<LinkedAgent> {
  return write(context, async (sql, now) => {
    const agent = await getLinkedAgent(sql, environmentId, id, true);
    const change = started(agent, environmentId);
    const isChanged = change.status !== agent.status;
    if (agent.stoppedAt === null && !isChanged) {
      if (agent.status === 'active') return { result: agent, audit: null };
      throw new AppError(
        'forbidden',
        `The agent is ${agent.status}, and not by you: whoever did it may end it`,
      );
    }
    await liftStop(sql, environmentId, id);
    const written = isChanged ? await updateAgentState(sql, id, change, now) : {};
    const result = { ...agent, ...change, ...written, stoppedAt: null };
    return {
      result,
      audit: { action: 'agent.started', resource: id, data: { status: statusFor(result) } },
    };
  });
}

/** Deactivates the environment's own agent, its tokens included, until it is started again. */
export async function deactivateAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: AgentId,
): Promise<LinkedAgent> {
  return write(context, async (sql) =>
    deactivate(sql, context, await lockOwnedAgent(sql, environmentId, id)),
  );
}

/** As `deactivateAgent`, by the agent itself. Its owner may start it again, or whoever it is linked to where it has none. */
export async function deactivateItself(context: WriteContext, acting: ActingAgent): Promise<Agent> {
  return write(context, async (sql, now) => {
    const agent = await lockActingAgent(sql, acting, now);
    const outcome = await deactivate(sql, context, agent);
    const scope = agent.homeEnvironmentId ?? ('instance' as const);
    return { ...outcome, audit: outcome.audit && { ...outcome.audit, scope } };
  });
}

async function deactivate<Kind extends Agent>(sql: Sql, context: WriteContext, agent: Kind) {
  if (agent.deactivatedAt !== null) return { result: agent, audit: null };
  const now = await endActing(sql, context, [agent.id]);
  const change = deactivated(agent, now);
  const written = await updateAgentState(sql, agent.id, change, now);
  return {
    result: { ...agent, ...change, ...written },
    audit: { action: 'agent.deactivated', resource: agent.id },
    outbox: agent.status === 'active' ? await tellEnded(sql, [agent.id]) : [],
  };
}
