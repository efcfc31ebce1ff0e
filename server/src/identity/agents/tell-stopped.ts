import type { OutboxEntry, Sql } from '../../db/index.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { findLinksOf } from './agents.sql.ts';

/** What tells of an agent that it was stopped. */
const stoppedTopic = 'agent.stopped';
/** What tells an owner of something that they may want to look at. */
export const noticeTopic = 'notice';

/** Of which nobody is owed anything: whoever misses one finds the same in the agent itself, or in the audit log. */
export const newsTopics = [noticeTopic, stoppedTopic] as const;

/**
 * What tells every environment of agents that ran until now and are stopped, deactivated or deleted: whoever stops one stops it for all that it is
 * linked to, and each of them has holds and payments of its own to end. An agent that was stopped already is told of no second
 * time. The agents are locked by the caller, so that no link is added beside it.
 */
export async function tellStopped(sql: Sql, agentIds: readonly AgentId[]): Promise<OutboxEntry[]> {
  const links = await findLinksOf(sql, agentIds);
  return links.map(({ agentId, environmentId }) => ({
    topic: stoppedTopic,
    scope: environmentId,
    payload: { agent_id: agentId },
  }));
}
