import type { Database } from '../../db/index.ts';
import { addSeconds, type Clock } from '../../kernel/clock.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { startLoop } from '../../kernel/loop.ts';
import { acceptsTokenOf } from '../agents/agent.ts';
import { agentChangedChannel } from '../agents/agents.sql.ts';
import { familyOfTokenId } from './refresh-token.ts';
import {
  type ChangedAgent,
  findChangedAgents,
  findRevoked,
  tokensRevokedChannel,
} from './revocations.sql.ts';

/** What an access token says of itself, as far as it decides whether it has been revoked. */
export interface TokenFacts {
  agentId: AgentId;
  jti: string;
  iat: number;
}

/**
 * What this process knows of agents and tokens that are dead, so that verifying one reads no database. Kept by notifications, and by
 * a poll behind them; what is known is never used when it is older than `limits.revocationAgeSeconds`.
 */
export interface Revocations {
  /**
   * Whether the token is dead, its signature and times apart. Asks the database only where nothing new has been heard for long,
   * and throws `unavailable` where it doesn't answer: a token that may be dead is not accepted.
   */
  isDead(token: TokenFacts): Promise<boolean>;
  /** Reads what has changed up to now. Throws where the database doesn't answer. */
  catchUp(): Promise<void>;
  /** Makes a revocation of this process count at once. */
  learn(id: string): void;
  /** Called with the id of an agent that has changed; with nothing where some may have been missed. */
  onAgentChanged(callback: (agentId?: string) => void): void;
  /** What it has to be told of, by `listen`. */
  channels: Record<string, (payload: string) => void>;
  stop(): Promise<void>;
}

const pollMs = 2_000;
/** No access token lives longer, so that older changes concern none. */
const horizonSeconds = limits.accessTokenSeconds + 2 * limits.clockSkewSeconds;
/** Changes are dated when their transaction begins, and seen when it has committed. */
const overlapSeconds = 90;

/** Reads what is known so far, and goes on reading until it is stopped. */
export async function openRevocations(context: {
  db: Database;
  clock: Clock;
  onError: (error: unknown) => void;
}): Promise<Revocations> {
  const callbacks: ((agentId?: string) => void)[] = [];
  const tellChanged = (agentId: string) => {
    for (const tell of callbacks) tell(agentId);
  };
  const known = createKnowledge(context, tellChanged);
  await known.read();
  const loop = startLoop({ intervalMs: pollMs, run: known.read, onError: context.onError });

  return {
    async isDead(token) {
      if (known.ageMs() > limits.revocationAgeSeconds * 1000) await known.read().catch(refuse);
      return known.isDead(token);
    },
    catchUp: known.read,
    learn: known.learn,
    onAgentChanged(callback) {
      callbacks.push(callback);
    },
    channels: {
      [agentChangedChannel](agentId) {
        tellChanged(agentId);
        loop.wake();
      },
      [tokensRevokedChannel]: () => loop.wake(),
    },
    stop: () => loop.stop(),
  };
}

function refuse(cause: unknown): never {
  throw new AppError(
    'unavailable',
    'Whether the token has been revoked cannot be known at the moment: try again',
    { cause },
  );
}

/** What was read so far, as far as it can concern a token that has not expired. */
function createKnowledge(
  { db, clock }: { db: Database; clock: Clock },
  onChanged: (agentId: string) => void,
) {
  const agents = new Map<AgentId, ChangedAgent>();
  /** Token ids and families, with when they were revoked. */
  const revoked = new Map<string, Date>();
  let readUntil = addSeconds(clock.now(), -horizonSeconds);
  let readAtMs = Number.NEGATIVE_INFINITY;

  const overlap = () => (readAtMs < 0 ? 0 : -overlapSeconds);

  function forgetBefore(time: Date): void {
    for (const [id, { updatedAt }] of agents) if (updatedAt < time) agents.delete(id);
    for (const [id, revokedAt] of revoked) if (revokedAt < time) revoked.delete(id);
  }

  return {
    async read(): Promise<void> {
      const beganMs = performance.now();
      const now = clock.now();
      // Set back, it makes tokens good again whose ends were forgotten by the time of before.
      const isSetBack = now < readUntil;
      const since = isSetBack ? addSeconds(now, -horizonSeconds) : addSeconds(readUntil, overlap());
      const [changed, dead] = await Promise.all([findChangedAgents(db, since), findRevoked(db, since)]);
      for (const agent of changed) {
        const known = agents.get(agent.id)?.updatedAt ?? new Date(0);
        // Two reads may overtake each other: what is older says nothing.
        if (agent.updatedAt <= known) continue;
        agents.set(agent.id, agent);
        onChanged(agent.id);
      }
      for (const { id, revokedAt } of dead) revoked.set(id, revokedAt);
      [readUntil, readAtMs] = [now, beganMs];
      forgetBefore(addSeconds(now, -horizonSeconds));
    },
    ageMs: () => performance.now() - readAtMs,
    learn(id: string): void {
      revoked.set(id, clock.now());
    },
    isDead({ agentId, jti, iat }: TokenFacts): boolean {
      const agent = agents.get(agentId);
      if (agent && !acceptsTokenOf(agent, iat, clock.now())) return true;
      return revoked.has(jti) || revoked.has(familyOfTokenId(jti) ?? '');
    },
  };
}
