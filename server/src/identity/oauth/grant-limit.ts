import { AppError } from '../../kernel/errors.ts';
import type { Agent } from '../agents/agent.ts';
import { limits } from '../../kernel/limits.ts';

/**
 * Bounds the grants of agents that registered themselves: anybody may have some, and each grant is rows that are kept for a month.
 * What an owner made asks for as many tokens as it likes. Counted by each process for itself.
 */
export interface GrantLimit {
  /** Counts a grant. Throws `rate_limited` where the agent has had those of this minute. */
  admit(agent: Pick<Agent, 'homeEnvironmentId'>, id: Agent['id'], now: Date): void;
}

export function createGrantLimit(): GrantLimit {
  const counts = new Map<Agent['id'], { endsAt: number; count: number }>();
  return {
    admit({ homeEnvironmentId }, id, now) {
      if (homeEnvironmentId !== null) return;
      const known = counts.get(id);
      const entry =
        known && now.getTime() < known.endsAt ? known : { endsAt: now.getTime() + 60_000, count: 0 };
      if (entry.count >= limits.homelessGrantsPerMinute) {
        const seconds = Math.ceil((entry.endsAt - now.getTime()) / 1000);
        throw new AppError(
          'rate_limited',
          `An agent that registered itself gets ${limits.homelessGrantsPerMinute} tokens a minute, each good for an hour; try again in ${seconds} seconds`,
          { retryAfterSeconds: seconds },
        );
      }
      entry.count += 1;
      counts.delete(id);
      counts.set(id, entry);
      const [oldest] = counts.size > limits.clientsRemembered ? counts.keys() : [];
      if (oldest !== undefined) counts.delete(oldest);
    },
  };
}
