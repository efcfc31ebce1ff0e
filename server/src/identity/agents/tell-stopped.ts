import type { OutboxEntry, Sql } from '../../db/index.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { findLinksOf } from './agents.sql.ts';

/**
 * What tells every environment of agents that ran until now and are stopped or deleted: whoever stops one stops it for all that it is
 * linked to, and each of them has holds and payments of its own to end. An agent that was stopped already is told of no second
 * time. The agents are locked by the caller, so that no link is added beside it.
 */
export async function tellStopped(sql: Sql, agentIds: readonly AgentId[]): Promise<OutboxEntry[]> {
  const links = await findLinksOf(sql, agentIds);
  return links.map(({ agentId, environmentId }) => ({
    topic: 'agent.stopped',
    scope: environmentId,
    payload: { agent_id: agentId },
  }));
}
