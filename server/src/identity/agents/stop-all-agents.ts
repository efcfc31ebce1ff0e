import { write, type WriteContext } from '../../db/index.ts';
import type { EnvironmentId } from '../../kernel/ids.ts';
import { lockStoppableAgents, stopLinkedAgents } from '../links/agent-links.sql.ts';
import { endActing } from './end-acting.ts';
import { tellStopped } from './tell-stopped.ts';

/** As `stopAgent`, every agent that the environment is linked to, in one transaction. Gives how many it had not stopped before. */
export async function stopAllAgents(context: WriteContext, environmentId: EnvironmentId): Promise<number> {
  return write(context, async (sql) => {
    const ids = await lockStoppableAgents(sql, environmentId);
    const now = await endActing(sql, context, ids);
    const agents = await stopLinkedAgents(sql, environmentId, ids, now);
    return {
      result: agents.length,
      audit: agents.map(({ id }) => ({ action: 'agent.stopped', resource: id, data: { all: true } })),
      outbox: await tellStopped(sql, environmentId, agents, now),
    };
  });
}
