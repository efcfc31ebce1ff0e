import { write, type WriteContext } from '../../db/index.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import type { Agent } from './agent.ts';
import { updateAgent } from './agents.sql.ts';
import { lockOwnedAgent } from './owned-agent.ts';

/** What its owner may change of an agent. */
export type AgentPatch = Partial<
  Pick<
    Agent,
    | 'description'
    | 'expiresAt'
    | 'metadata'
    | 'name'
    | 'refreshWithoutClientAuth'
    | 'scopes'
    | 'selfRotation'
    | 'tags'
    | 'type'
  >
>;

/** Changes what is named in the patch. Fewer scopes and an earlier end hold from the next grant on. */
export async function changeAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: AgentId,
  patch: AgentPatch,
): Promise<Agent> {
  return write(context, async (sql, now) => {
    const agent = { ...(await lockOwnedAgent(sql, environmentId, id)), ...patch };
    const updatedAt = await updateAgent(sql, agent, now);
    return {
      result: { ...agent, updatedAt },
      audit: { action: 'agent.updated', resource: id, data: { fields: Object.keys(patch).toSorted() } },
    };
  });
}
