import { write, type WriteContext } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import type { EnvironmentId } from '../../kernel/ids.ts';
import { newSecretCredential } from '../credentials/new-secret-credential.ts';
import { withSecret } from '../credentials/shown-secret.ts';
import { type Agent, newAgent } from './agent.ts';
import { insertAgent } from './agents.sql.ts';
import { insertLink } from '../links/agent-links.sql.ts';

/** What an owner says of a new agent. */
export type NewAgent = Pick<
  Agent,
  'description' | 'metadata' | 'name' | 'scopes' | 'selfRotation' | 'tags' | 'type'
> & { expiresInSeconds: number | null };

/** Makes an agent that the environment owns and is linked to. Its secret is in the result, and nowhere else. */
export async function createAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  { expiresInSeconds, ...given }: NewAgent,
): Promise<{ agent: Agent; secret: string | null }> {
  const secret = newSecretCredential();
  return write(context, async (sql, now) => {
    const expiresAt = expiresInSeconds === null ? null : addSeconds(now, expiresInSeconds);
    const agent = newAgent({ ...given, expiresAt, homeEnvironmentId: environmentId }, now);
    await insertAgent(sql, agent);
    await insertLink(sql, { environmentId, agentId: agent.id, linkedBy: context.actor.id, now });
    await secret.insert(sql, { agentId: agent.id, createdBy: 'owner', now });
    const data = { name: agent.name, scopes: agent.scopes };
    return withSecret<{ agent: Agent; secret: string | null }>(
      { agent, secret: secret.text },
      { action: 'agent.created', resource: agent.id, data },
    );
  });
}
