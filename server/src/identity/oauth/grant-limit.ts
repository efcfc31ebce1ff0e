import type { SharedCounts } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { limits } from '../../kernel/limits.ts';
import type { Agent } from '../agents/agent.ts';

/**
 * Bounds the grants of agents that registered themselves, on all processes together: anybody may have some, and each grant is rows that are
 * kept for a month. What an owner made asks for as many tokens as it likes.
 */
export interface GrantLimit {
  /** Counts a grant. Throws `rate_limited` where the agent has had those of this minute. */
  admit(agent: Pick<Agent, 'homeEnvironmentId'>, id: Agent['id']): Promise<void>;
}

const max = limits.homelessGrantsPerMinute;
const limit = { max, unwritten: max * limits.unwrittenShare };

export function createGrantLimit({ counts }: { counts: SharedCounts }): GrantLimit {
  return {
    async admit({ homeEnvironmentId }, id) {
      if (homeEnvironmentId !== null) return;
      const { isWithin, endsInSeconds } = await counts.take(`grant ${id}`, limit);
      if (isWithin) return;
      throw new AppError(
        'rate_limited',
        `An agent that registered itself gets ${max} tokens a minute, each good for an hour; try again in ${endsInSeconds} seconds`,
        { retryAfterSeconds: endsInSeconds },
      );
    },
  };
}
