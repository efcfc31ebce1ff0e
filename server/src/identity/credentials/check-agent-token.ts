import { write, type WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { sha256 } from '../../kernel/crypto.ts';
import { limits } from '../../kernel/limits.ts';
import { type Agent, isLive, tokenLifeSeconds, tokenTime } from '../agents/agent.ts';
import { looksLikeClientSecret } from './client-secret.ts';
import { findAgentBySecret } from './credentials.sql.ts';

/**
 * Checks an agent's own secret, for a fresh jwt. The secret stays good.
 * Gives nothing alike for an unknown agent, a wrong token and an agent that isn't live: which one it was is nothing for whoever
 * guesses. Throws `forbidden` for an agent whose tokens must be bound to a key: the jwt of this way is not.
 */
export async function checkAgentToken(
  context: WriteContext,
  args: { agentId: string; token: string },
): Promise<Agent | undefined> {
  const checked = await write(context, async (sql, now) => {
    const found = looksLikeClientSecret(args.token)
      ? await findAgentBySecret(sql, { clientId: args.agentId, secretHash: sha256(args.token), now })
      : undefined;
    const good = found && lifeOf(found.agent, now) > 0 ? found.agent : undefined;
    // What is wrong is written down by whoever counts it.
    if (!good) return { result: undefined, audit: null };
    const action = good.senderBound ? 'agent.token_refused' : 'agent.token_issued';
    const scope = good.homeEnvironmentId ?? ('instance' as const);
    return { result: good, audit: { action, resource: good.id, scope } };
  });
  if (checked?.senderBound)
    throw new AppError(
      'forbidden',
      'Tokens of this agent are bound to a key: get them at /oauth/token, with a DPoP proof of a registered key',
    );
  return checked;
}

/** How many seconds a jwt of now may live; none where the agent isn't live. */
export function lifeOf(agent: Agent, now: Date): number {
  return isLive(agent, now) ? tokenLifeSeconds(agent, tokenTime(agent, now), limits.agentTokenSeconds) : 0;
}
