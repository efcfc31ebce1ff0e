import { write, type WriteContext } from '../../db/index.ts';
import { newSecretCredential } from '../credentials/new-secret-credential.ts';
import { type Agent, newAgent } from './agent.ts';
import { insertAgent } from './agents.sql.ts';

/** Registers an agent by its own word: no login, no home. Its `token` is in the result, and nowhere else. */
export async function registerAgent(
  context: WriteContext,
  args: { name: string; clientInfo: string; email: string | null },
): Promise<{ agent: Agent; token: string }> {
  const secret = newSecretCredential();
  return write(context, async (sql, now) => {
    const agent = newAgent({ ...args, homeEnvironmentId: null }, now);
    await insertAgent(sql, agent);
    await secret.insert(sql, { agentId: agent.id, createdBy: 'agent', now });
    return {
      result: { agent, token: secret.text },
      audit: { action: 'agent.registered', resource: agent.id, data: { name: agent.name } },
    };
  });
}
