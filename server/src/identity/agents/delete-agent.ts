import { write, type WriteContext } from '../../db/index.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { markAgentDeleted } from './agents.sql.ts';
import { lockOwnedAgent } from './owned-agent.ts';

/** Ends an agent for good: credentials, tokens and links. What it did stays in the books. */
export async function deleteAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: AgentId,
): Promise<void> {
  await write(context, async (sql, now) => {
    await lockOwnedAgent(sql, environmentId, id);
    await markAgentDeleted(sql, id, now);
    return {
      result: undefined,
      audit: { action: 'agent.deleted', resource: id },
      outbox: [{ topic: 'agent.stopped', scope: environmentId, payload: { agent_id: id } }],
    };
  });
}
