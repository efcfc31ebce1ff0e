import { write, type WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { type AgentId, type EnvironmentId, isId } from '../../kernel/ids.ts';
import { touchAgent } from '../agents/agents.sql.ts';
import { lockOwnedAgent } from '../agents/owned-agent.ts';
import { findCredential, revokeCredentials } from './credentials.sql.ts';

/** Ends a credential, and every refresh family that began with it. Revoking it twice is revoking it once. */
export async function revokeCredential(
  context: WriteContext,
  environmentId: EnvironmentId,
  agentId: AgentId,
  id: string,
): Promise<void> {
  await write(context, async (sql, now) => {
    await lockOwnedAgent(sql, environmentId, agentId);
    const credential = isId('credential', id) ? await findCredential(sql, id) : undefined;
    if (credential?.agentId !== agentId) throw new AppError('not_found', 'The agent has no such credential');
    if (credential.revokedAt !== null) return { result: undefined, audit: null };
    await revokeCredentials(sql, [credential.id], now);
    await touchAgent(sql, agentId, now);
    const data = { credential_id: credential.id, kind: credential.kind };
    return {
      result: undefined,
      audit: { action: 'agent.credential_revoked', resource: agentId, data },
    };
  });
}
