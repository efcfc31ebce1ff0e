import { type AgentId, isAgentId } from '../../kernel/ids.ts';
import type { JwtClaims } from '../tokens/jws.ts';
import type { TokenFault, Tokens } from '../tokens/tokens.ts';

/** Why a credential is refused: as a token, for its challenge, or for an agent that may act no more. */
export type CredentialFault = TokenFault | 'wrong_challenge' | 'agent_inactive';

export type Verification = { valid: true; payload: JwtClaims } | { valid: false; error: CredentialFault };

/**
 * Verifies a credential for a verifier that has no JWT library, or wants to see why its own says no. Audience and challenge are the
 * verifier's own, never the credential's: without them a credential for somebody else, or an old one, would be good. That a
 * challenge is taken once is up to the verifier.
 */
export async function verifyCredential(
  deps: { tokens: Tokens; isAccepted(agentId: AgentId, iat: number): Promise<boolean> },
  args: { vc: string; audience: string; challenge: string; now: Date },
): Promise<Verification> {
  const { vc, audience, challenge, now } = args;
  const { claims, fault } = await deps.tokens.check(vc, { typ: 'vc+jwt', audience, now });
  if (fault) return { valid: false, error: fault };
  // One of several is no credential of ours, and good at another verifier as well.
  if (claims['aud'] !== audience) return { valid: false, error: 'wrong_audience' };
  if (claims['challenge'] !== challenge) return { valid: false, error: 'wrong_challenge' };
  const { sub, iat } = claims;
  const isAccepted = typeof sub === 'string' && isAgentId(sub) && (await deps.isAccepted(sub, iat as number));
  return isAccepted ? { valid: true, payload: claims } : { valid: false, error: 'agent_inactive' };
}
