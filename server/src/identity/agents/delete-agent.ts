import { write, type WriteContext } from '../../db/index.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { markAgentsDeleted } from './agents.sql.ts';
import { endActing } from './end-acting.ts';
import { lockOwnedAgent } from './owned-agent.ts';
import { tellEnded } from './tell-stopped.ts';

/** Ends an agent for good: credentials, tokens and links. What it did stays in the books. */
export async function deleteAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: AgentId,
): Promise<void> {
  await write(context, async (sql) => {
    const agent = await lockOwnedAgent(sql, environmentId, id);
    const now = await endActing(sql, context, [id]);
    // Its links end with it: who is to be told is read before.
    const outbox = agent.status === 'active' ? await tellEnded(sql, [id]) : [];
    await markAgentsDeleted(sql, [id], now);
    return {
      result: undefined,
      audit: { action: 'agent.deleted', resource: id },
      outbox,
    };
  });
}
