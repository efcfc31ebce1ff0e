import { write, type WriteContext } from '../db/index.ts';
import { sha256 } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import { isAgentId } from '../kernel/ids.ts';
import { type Agent, findAgentBySecret } from './agents.sql.ts';

/**
 * Checks an agent's own secret, for a fresh jwt. The secret stays good.
 * Throws `invalid_client` alike for an unknown agent, a wrong token and an inactive agent: which one it was is for
 * the log, not for whoever guesses.
 */
export async function checkAgentToken(
  context: WriteContext,
  args: { agentId: string; token: string },
): Promise<Agent> {
  const agent = await write(context, async (sql) => {
    const found = isAgentId(args.agentId)
      ? await findAgentBySecret(sql, args.agentId, sha256(args.token))
      : undefined;
    const good = found?.status === 'active' ? found : undefined;
    return {
      result: good,
      // What was sent in the place of an id may be anything, a misplaced secret as well.
      audit: {
        action: good ? 'agent.token_issued' : 'agent.token_refused',
        resource: isAgentId(args.agentId) ? args.agentId : 'unknown',
      },
    };
  });
  if (!agent) throw new AppError('invalid_client', 'agent_id and token do not belong to an active agent');
  return agent;
}
