import { writeBatch, type WriteContext } from '../../db/index.ts';
import type { EnvironmentId } from '../../kernel/ids.ts';
import { suspendLinkedAgents } from './agents.sql.ts';

/** Stops every agent that the environment is linked to, in one transaction. Gives how many of them ran. */
export async function stopAllAgents(context: WriteContext, environmentId: EnvironmentId): Promise<number> {
  return writeBatch(context, async (sql, now) => {
    const ids = await suspendLinkedAgents(sql, environmentId, now);
    return {
      result: ids.length,
      audits: ids.map((id) => ({ ...context, action: 'agent.stopped', resource: id, data: { all: true } })),
      outbox: ids.map((id) => ({ topic: 'agent.stopped', scope: environmentId, payload: { agent_id: id } })),
    };
  });
}
