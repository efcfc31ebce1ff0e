import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import {
  type AgentCredential,
  type CredentialDemands,
  CredentialError,
  verifyAgentCredential,
} from './agent-credential.ts';

/** What an agent sends back to log in. */
export interface AgentLoginAnswer {
  challenge: string;
  vc: string;
}

/** The login of agents at a site: gives challenges, and takes each of them once. */
export interface AgentLogin {
  /** What the agent has to get a credential for. */
  challenge(): { challenge: string; audience: string };
  /**
   * The claims of the credential; `sub` is the agent's id. Throws `CredentialError`, with `unknown_challenge` where the challenge wasn't
   * given, is too old, or has let somebody in already.
   */
  verify(answer: AgentLoginAnswer | undefined): Promise<AgentCredential>;
}

/** What the processes of a site have in common, so that each knows the challenges that another one gave, and took. */
export interface SharedLogin {
  /** The same in all of them: 32 random bytes, that nobody else knows. */
  key: Uint8Array;
  /** Whether this challenge has let nobody in yet, in any process; it may be forgotten at `expiresAt`. An insert under a unique index is enough. */
  takeOnce(challenge: string, expiresAt: Date): Promise<boolean>;
}

const [nonceBytes, timeBytes, macBytes, keyBytes] = [16, 6, 32, 32];

/**
 * A challenge is good for five minutes, unless `challengeSeconds` says otherwise, and proves itself that it was given here: nothing is kept for
 * who only asks. One that has let somebody in is remembered until it expires, in this process alone, unless there is something `shared`.
 */
export function createAgentLogin(
  demands: Omit<CredentialDemands, 'challenge'> & { challengeSeconds?: number; shared?: SharedLogin },
): AgentLogin {
  const { challengeSeconds = 300, shared, ...rest } = demands;
  const lifeMs = challengeSeconds * 1000;
  const { key, takeOnce } = shared ?? { key: randomBytes(keyBytes), takeOnce: createMemory(lifeMs) };
  if (!(key instanceof Uint8Array) || key.length < keyBytes) throw new TypeError('key needs 32 bytes');
  const macOf = (message: Uint8Array) =>
    createHmac('sha256', key).update(message).update(demands.audience).digest();

  /** When a challenge of ours ends; nothing for another's. Read in its only spelling: another one would be taken a second time. */
  function endOf(challenge: string): Date | undefined {
    const bytes = Buffer.from(challenge, 'base64url');
    if (bytes.length !== nonceBytes + timeBytes + macBytes || bytes.toString('base64url') !== challenge)
      return undefined;
    const message = bytes.subarray(0, -macBytes);
    if (!timingSafeEqual(macOf(message), bytes.subarray(-macBytes))) return undefined;
    return new Date(message.readUIntBE(nonceBytes, timeBytes));
  }

  return {
    challenge() {
      const message = Buffer.concat([randomBytes(nonceBytes), Buffer.alloc(timeBytes)]);
      message.writeUIntBE(Date.now() + lifeMs, nonceBytes, timeBytes);
      const challenge = Buffer.concat([message, macOf(message)]).toString('base64url');
      return { challenge, audience: demands.audience };
    },
    async verify(answer) {
      const { challenge, vc = '' } = answer ?? {};
      const expiresAt = typeof challenge === 'string' ? endOf(challenge) : undefined;
      if (challenge === undefined || expiresAt === undefined || expiresAt.getTime() <= Date.now())
        throw new CredentialError('unknown_challenge');
      const credential = await verifyAgentCredential(vc, { ...rest, challenge });
      // Last: only who may come in uses a challenge up, so that what is remembered is bounded by those.
      if (!(await takeOnce(challenge, expiresAt))) throw new CredentialError('unknown_challenge');
      return credential;
    },
  };
}

/** What one process remembers of used challenges. None can be good any more after as long as a challenge lives. */
function createMemory(lifeMs: number): SharedLogin['takeOnce'] {
  const forgottenAt = new Map<string, number>();
  return async (challenge) => {
    const now = Date.now();
    for (const [old, at] of forgottenAt) {
      if (at > now) break;
      forgottenAt.delete(old);
    }
    if (forgottenAt.has(challenge)) return false;
    forgottenAt.set(challenge, now + lifeMs);
    return true;
  };
}
