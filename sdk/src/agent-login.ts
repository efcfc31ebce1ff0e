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
   * given, is too old, or was answered before, whatever came out.
   */
  verify(answer: AgentLoginAnswer | undefined): Promise<AgentCredential>;
}

/** So many challenges wait at once; of more the oldest are forgotten. */
const challengesMax = 10_000;

/** Challenges are kept in this process alone, for five minutes unless `challengeSeconds` says otherwise. */
export function createAgentLogin(
  demands: Omit<CredentialDemands, 'challenge'> & { challengeSeconds?: number },
): AgentLogin {
  const { challengeSeconds = 300, ...rest } = demands;
  const given = new Map<string, number>();

  return {
    challenge() {
      const challenge = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('base64url');
      given.set(challenge, Date.now());
      const [oldest] = given.size > challengesMax ? given.keys() : [];
      if (oldest !== undefined) given.delete(oldest);
      return { challenge, audience: demands.audience };
    },
    async verify(answer) {
      const { challenge = '', vc = '' } = answer ?? {};
      const givenAt = given.get(challenge);
      given.delete(challenge);
      if (givenAt === undefined || givenAt + challengeSeconds * 1000 <= Date.now())
        throw new CredentialError('unknown_challenge');
      return verifyAgentCredential(vc, { ...rest, challenge });
    },
  };
}
