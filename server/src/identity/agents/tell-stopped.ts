import type { OutboxEntry, Sql } from '../../db/index.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { findLinksOf, type StoppedAgent } from '../links/agent-links.sql.ts';

/** What tells of an agent that it was stopped. */
const stoppedTopic = 'agent.stopped';
/** What tells an owner of something that they may want to look at. */
export const noticeTopic = 'notice';

/** Of which nobody is owed anything: whoever misses one finds the same in the agent itself, or in the audit log. */
export const newsTopics = [noticeTopic, stoppedTopic] as const;

/**
 * What tells of agents that ran until now and are deactivated or deleted: every environment that they ran for, as each of them has holds
 * and payments of its own to end. Who had stopped one was told then. The agents are locked by the caller, so that no link is added
 * beside it.
 */
export async function tellEnded(sql: Sql, agentIds: readonly AgentId[]): Promise<OutboxEntry[]> {
  const links = await findLinksOf(sql, agentIds);
  return links
    .filter(({ stoppedAt }) => stoppedAt === null)
    .map(({ agentId, environmentId }) => endOf(agentId, environmentId));
}

/**
 * As `tellEnded`, of agents that the environment has just stopped. For whom one goes on running, a notice: its tokens are dead there
 * too, and a stop elsewhere may be worth a look.
 */
export async function tellStopped(
  sql: Sql,
  environmentId: EnvironmentId,
  agents: readonly StoppedAgent[],
  now: Date,
): Promise<OutboxEntry[]> {
  const running = new Map(agents.filter(({ wasRunning }) => wasRunning).map((agent) => [agent.id, agent]));
  const links = await findLinksOf(sql, [...running.keys()]);
  return links.flatMap((link) => {
    const isOwn = link.environmentId === environmentId;
    if (!isOwn && link.stoppedAt !== null) return [];
    if (isOwn || running.get(link.agentId)?.forAll === true) return [endOf(link.agentId, link.environmentId)];
    const payload = { kind: 'agent.stopped_elsewhere', agent_id: link.agentId, at: now.toISOString() };
    return [{ topic: noticeTopic, scope: link.environmentId, payload }];
  });
}

function endOf(agentId: AgentId, scope: EnvironmentId): OutboxEntry {
  return { topic: stoppedTopic, scope, payload: { agent_id: agentId } };
}
