import { type Sql, write, type WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { findLiveCredentials } from '../credentials/credentials.sql.ts';
import type { Agent, LinkedAgent } from './agent.ts';
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
    | 'senderBound'
    | 'tags'
    | 'type'
  >
>;

/**
 * Changes what is named in the patch. Fewer scopes and an earlier end hold from the next grant on. Tokens that must be bound from now
 * on end those of before; throws `conflict` where the agent has no key to bind them to.
 */
export async function changeAgent(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: AgentId,
  patch: AgentPatch,
): Promise<LinkedAgent> {
  return write(context, async (sql, now) => {
    const before = await lockOwnedAgent(sql, environmentId, id);
    const isBoundNow = patch.senderBound === true && !before.senderBound;
    if (isBoundNow) await demandKey(sql, id, now);
    const agent = { ...before, ...patch, ...(isBoundNow ? { tokensValidFrom: now } : {}) };
    const updatedAt = await updateAgent(sql, agent, now);
    return {
      result: { ...agent, updatedAt },
      audit: { action: 'agent.updated', resource: id, data: { fields: Object.keys(patch).toSorted() } },
    };
  });
}

/** Without one, nobody could get a token for the agent any more. */
async function demandKey(sql: Sql, id: AgentId, now: Date): Promise<void> {
  const live = await findLiveCredentials(sql, id, now);
  if (live.some(({ kind }) => kind === 'public_key')) return;
  throw new AppError(
    'conflict',
    'The agent has no public key to bind its tokens to: give it one first, with POST /v1/agents/{id}/credentials',
  );
}
