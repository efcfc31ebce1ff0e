import { type Sql, write, type WriteContext } from '../../db/index.ts';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import { sha256 } from '../../kernel/crypto.ts';
import { AppError } from '../../kernel/errors.ts';
import { limits } from '../../kernel/limits.ts';
import { type Agent, tokenLifeSeconds, tokenTime } from '../agents/agent.ts';
import { findLiveCredentials } from '../credentials/credentials.sql.ts';
import { type ActingAgent, lockActingAgent } from '../oauth/acting-agent.ts';
import type { SignedToken, Tokens } from '../tokens/tokens.ts';
import { describeAgent } from './agent-credential.ts';
import { withChallenge, withoutChallenge } from './bare-credential.ts';

/** A credential, as it is told to the agent. */
export interface IssuedCredential {
  vc: string;
  jti: string;
  issuedAt: Date;
  expiresAt: Date;
  kid: string;
}

/** For whom, and for how long. */
export interface CredentialRequest {
  /** The agent, and of which key its request proved possession, if of any. */
  acting: ActingAgent & { keyThumbprint: string | null };
  challenge: string;
  audience: string;
  ttlSeconds: number;
}

/**
 * Signs a credential that lets the agent log in at one verifier, once it has the verifier's challenge. It ends with the agent, if that
 * is sooner. The challenge is the verifier's business: its hash alone is kept, with the audit event, where a dispute would look for
 * it; nothing else ever does, so that there is no table of credentials to read or to clear. Throws `invalid_request` for a challenge
 * above 4096 bytes, `unauthorized` where the agent's token is dead by now or the agent ends within the second.
 */
export async function issueCredential(
  context: WriteContext,
  tokens: Tokens,
  request: CredentialRequest,
): Promise<IssuedCredential> {
  const { acting, audience, challenge } = request;
  if (Buffer.byteLength(challenge) > limits.challengeBytes) {
    throw new AppError(
      'invalid_request',
      `challenge must have at most ${limits.challengeBytes} bytes in UTF-8`,
    );
  }
  const { bare, ...issued } = await write(context, async (sql, now) => {
    const agent = await lockActingAgent(sql, acting, now);
    const { token, ...signed } = await sign(sql, tokens, { agent, request, now });
    const data = {
      jti: signed.jti,
      kid: signed.kid,
      audience,
      challenge_sha256: sha256(challenge).toString('hex'),
      expires_at: signed.expiresAt.toISOString(),
    };
    return {
      // The answer is kept for a day where the request has an Idempotency-Key, the challenge never.
      result: { ...signed, bare: withoutChallenge(token) },
      audit: { action: 'agent.vc_issued', resource: agent.id, data },
    };
  });
  return { ...issued, vc: withChallenge(bare, challenge) };
}

/** In the transaction that has looked at the agent: a signature takes a millisecond, and what is signed is signed for good. */
async function sign(
  sql: Sql,
  tokens: Tokens,
  { agent, request, now }: { agent: Agent; request: CredentialRequest; now: Date },
): Promise<SignedToken> {
  const { audience, challenge } = request;
  const time = tokenTime(agent, now);
  const ttlSeconds = tokenLifeSeconds(agent, time, request.ttlSeconds);
  if (ttlSeconds === 0) throw new AppError('unauthorized', 'The agent expires within the second');
  const issuedAt = new Date(unixSeconds(time) * 1000);
  const claims = describeAgent({
    agentId: agent.id,
    issuer: tokens.issuer,
    audience,
    challenge,
    issuedAt,
    expiresAt: addSeconds(issuedAt, ttlSeconds),
    keyThumbprint: request.acting.keyThumbprint ?? (await findLatestKey(sql, agent, now)),
  });
  return tokens.sign('vc+jwt', claims, { ttlSeconds, now: time });
}

/** The one that the agent registered last, where it has any. */
async function findLatestKey(sql: Sql, agent: Agent, now: Date): Promise<string | null> {
  const live = await findLiveCredentials(sql, agent.id, now);
  return live.findLast(({ kind }) => kind === 'public_key')?.thumbprint ?? null;
}
