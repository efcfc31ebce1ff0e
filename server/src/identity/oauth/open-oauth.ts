import type { Database, SharedCounts, WriteContext } from '../../db/index.ts';
import { addSeconds, type Clock } from '../../kernel/clock.ts';
import type { SecretBox } from '../../kernel/crypto.ts';
import { createDigestMemory } from '../../kernel/digest-memory.ts';
import { limits } from '../../kernel/limits.ts';
import type { AgentUsage } from '../agents/usage.ts';
import type { GuessGuard } from '../credentials/guess-guard.ts';
import { sweepCredentials } from '../credentials/credentials.sql.ts';
import { sweepRefusals } from '../credentials/refusals.ts';
import type { Tokens } from '../tokens/tokens.ts';
import { type AccessTokens, createAccessTokens } from './access-tokens.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import { createClients } from './clients.ts';
import { createDpop } from './dpop.ts';
import { createGrantLimit } from './grant-limit.ts';
import { type AgentIdentifier, createAgentIdentifier } from './identify-agent.ts';
import { createProofRegister, sweepProofs } from './proof-register.ts';
import { sweepFamilies } from './refresh-families.sql.ts';
import { openRevocations } from './revocations.ts';
import { sweepRevokedTokens } from './revocations.sql.ts';
import { createTokenLane } from './token-lane.ts';

/** The authorization server of a process, with what verifies its tokens on every plane. */
export interface OAuth {
  server: AuthorizationServer & { accessTokens: AccessTokens };
  identifier: AgentIdentifier;
  /** What it has to be told of, by `listen`. */
  channels: Record<string, (payload: string) => void>;
  /** Knows the changes of agents that are committed by now, so that who made one finds it made. */
  catchUp(): Promise<void>;
  /** Resolves when all that was begun is written, and no more is read. */
  stop(): Promise<void>;
}

/** Wires it over an open database, once what has been revoked so far is known. */
export async function openOAuth(given: {
  db: Database;
  /** What all processes count together, over other connections than `db`: some is counted within a transaction of that. */
  counts: SharedCounts;
  clock: Clock;
  box: SecretBox;
  tokens: Tokens;
  usage: AgentUsage;
  guessGuard: GuessGuard;
  dpopNonces: boolean;
  onError: (error: unknown) => void;
}): Promise<OAuth> {
  const { issuer } = given.tokens;
  const revocations = await openRevocations(given);
  const clients = createClients(given);
  revocations.onAgentChanged((agentId) => clients.forget(agentId));
  const proofs = createProofRegister(given);
  const dpop = createDpop({ ...given, proofs, nonces: given.dpopNonces });
  const lane = createTokenLane(given);
  const accessTokens = createAccessTokens({ ...given, revocations });
  return {
    server: {
      ...given,
      grantLimit: createGrantLimit(given),
      knownApiKeys: createDigestMemory(),
      issuer,
      clients,
      proofs,
      dpop,
      lane,
      revocations,
      accessTokens,
    },
    identifier: createAgentIdentifier({ accessTokens, dpop, issuer, usage: given.usage }),
    channels: revocations.channels,
    catchUp: () => revocations.catchUp().catch(given.onError),
    async stop() {
      await Promise.all([revocations.stop(), lane.stop(), given.guessGuard.stop()]);
    },
  };
}

/** Forgets what is over: wrong credentials, secrets that ended long ago and nobody answers for, answers kept for a retry, families of a month ago, used proofs, and revocations of tokens that have expired. */
export async function sweepOAuth(context: WriteContext): Promise<void> {
  const now = context.clock.now();
  const familyTimes = {
    now,
    answersBefore: addSeconds(now, -limits.refreshRetrySeconds),
    familiesBefore: addSeconds(now, -limits.refreshFamilySeconds),
  };
  for (;;) {
    const swept = await sweepFamilies(context.db, { ...familyTimes, limit: limits.sweepBatch });
    if (Math.max(swept.answers, swept.families) < limits.sweepBatch) break;
  }
  await sweepProofs(context);
  await sweepRefusals(context);
  await sweepCredentials(context.db, now);
  await sweepRevokedTokens(context.db, addSeconds(now, -limits.clockSkewSeconds));
}
