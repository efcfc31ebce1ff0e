import { write, type WriteContext } from '../../db/index.ts';
import { sha256 } from '../../kernel/crypto.ts';
import { isAgentId } from '../../kernel/ids.ts';
import { type Agent, isLive } from '../agents/agent.ts';
import { looksLikeClientSecret } from './client-secret.ts';
import { findAgentBySecret } from './credentials.sql.ts';

/**
 * Checks an agent's own secret, for a fresh jwt. The secret stays good.
 * Gives nothing alike for an unknown agent, a wrong token and an agent that isn't live: which one it was is nothing for whoever
 * guesses.
 */
export async function checkAgentToken(
  context: WriteContext,
  args: { agentId: string; token: string },
): Promise<Agent | undefined> {
  return write(context, async (sql, now) => {
    const found = looksLikeClientSecret(args.token)
      ? await findAgentBySecret(sql, { clientId: args.agentId, secretHash: sha256(args.token), now })
      : undefined;
    const good = found && isLive(found.agent, now) ? found.agent : undefined;
    return {
      result: good,
      // What was sent in the place of an id may be anything, a misplaced secret as well.
      audit: {
        action: good ? 'agent.token_issued' : 'agent.token_refused',
        resource: good?.id ?? (isAgentId(args.agentId) ? args.agentId : 'unknown'),
      },
    };
  });
}
