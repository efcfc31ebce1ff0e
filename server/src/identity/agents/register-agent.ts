import { write, type WriteContext } from '../db/index.ts';
import { randomSecret, sha256 } from '../kernel/crypto.ts';
import { newAgentId } from '../kernel/ids.ts';
import { type Agent, insertAgent, insertSecret } from './agents.sql.ts';

/** Registers an agent by its own word: no login, no home. Its `token` is in the result, and nowhere else. */
export async function registerAgent(
  context: WriteContext,
  args: { name: string; clientInfo: string; email: string | null },
): Promise<{ agent: Agent; token: string }> {
  const token = `cs_${randomSecret()}`;
  return write(context, async (sql, now) => {
    const agent: Agent = { id: newAgentId(), ...args, status: 'active', createdAt: now };
    await insertAgent(sql, agent);
    await insertSecret(sql, { agentId: agent.id, secretHash: sha256(token), now });
    return {
      result: { agent, token },
      audit: { action: 'agent.registered', resource: agent.id, data: { name: agent.name } },
    };
  });
}
