import { write, type WriteContext } from '../../db/index.ts';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import { sha256 } from '../../kernel/crypto.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { type Agent, tokenTime } from '../agents/agent.ts';
import { findLiveCredentials } from '../credentials/credentials.sql.ts';
import type { Tokens } from '../tokens/tokens.ts';
import { describeAgent } from './agent-credential.ts';

/** A credential, as it is told to the agent. */
export interface IssuedCredential {
  vc: string;
  jti: string;
  issuedAt: Date;
  expiresAt: Date;
  kid: string;
}

/**
 * Signs a credential that lets the agent log in at one verifier, once it has the verifier's challenge. The challenge is the
 * verifier's business: its hash alone is kept, with the audit event, where a dispute would look for it; nothing else ever does, so
 * that there is no table of credentials to read or to clear. Throws `invalid_request` for a challenge above 4096 bytes.
 */
export async function issueCredential(
  context: WriteContext,
  tokens: Tokens,
  args: {
    agent: Pick<Agent, 'id' | 'tokensValidFrom'>;
    challenge: string;
    audience: string;
    ttlSeconds: number;
    /** Of the key whose possession the request proved, if it did. */
    keyThumbprint: string | null;
  },
): Promise<IssuedCredential> {
  const { challenge, audience, ttlSeconds } = args;
  const agentId = args.agent.id;
  if (Buffer.byteLength(challenge) > limits.challengeBytes) {
    throw new AppError(
      'invalid_request',
      `challenge must have at most ${limits.challengeBytes} bytes in UTF-8`,
    );
  }
  const now = tokenTime(args.agent, context.clock.now());
  const keyThumbprint = args.keyThumbprint ?? (await findLatestKey(context, agentId));
  const issuedAt = new Date(unixSeconds(now) * 1000);
  const expiresAt = addSeconds(issuedAt, ttlSeconds);
  const claims = describeAgent({
    agentId,
    audience,
    challenge,
    issuedAt,
    expiresAt,
    keyThumbprint,
    issuer: tokens.issuer,
  });
  const { token, jti, kid } = await tokens.sign('vc+jwt', claims, { ttlSeconds, now });
  return write(context, async () => ({
    result: { vc: token, jti, issuedAt, expiresAt, kid },
    audit: {
      action: 'agent.vc_issued',
      resource: agentId,
      data: {
        jti,
        kid,
        audience,
        challenge_sha256: sha256(challenge).toString('hex'),
        expires_at: expiresAt.toISOString(),
      },
    },
  }));
}

/** The one that the agent registered last, where it has any. */
async function findLatestKey(context: WriteContext, agentId: AgentId): Promise<string | null> {
  const live = await findLiveCredentials(context.db, agentId, context.clock.now());
  return live.findLast(({ kind }) => kind === 'public_key')?.thumbprint ?? null;
}
