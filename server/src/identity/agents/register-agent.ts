import { write, type WriteContext } from '../../db/index.ts';
import { newAgentId, newId } from '../../kernel/ids.ts';
import { newSecretCredential } from '../credentials/new-secret-credential.ts';
import type { Agent } from './agent.ts';
import { insertAgent } from './agents.sql.ts';

/** Registers an agent by its own word: no login, no home. Its `token` is in the result, and nowhere else. */
export async function registerAgent(
  context: WriteContext,
  args: { name: string; clientInfo: string; email: string | null },
): Promise<{ agent: Agent; token: string }> {
  const secret = newSecretCredential({ createdBy: 'agent' });
  return write(context, async (sql, now) => {
    const agent = newAgent({ ...args, homeEnvironmentId: null }, now);
    await insertAgent(sql, agent);
    await secret.insert(sql, agent.id, now);
    return {
      result: { agent, token: secret.text },
      audit: { action: 'agent.registered', resource: agent.id, data: { name: agent.name } },
    };
  });
}

/** An agent as it begins, with what it is given and nothing else. */
export function newAgent(
  given: Partial<Agent> & Pick<Agent, 'homeEnvironmentId' | 'name'>,
  now: Date,
): Agent {
  return {
    id: newAgentId(),
    clientId: newId('client'),
    type: null,
    description: '',
    clientInfo: '',
    email: null,
    scopes: [],
    tags: [],
    metadata: {},
    status: 'active',
    suspendedBy: [],
    deactivatedAt: null,
    expiresAt: null,
    tokensValidFrom: null,
    selfRotation: true,
    refreshWithoutClientAuth: true,
    createdAt: now,
    updatedAt: now,
    ...given,
  };
}
