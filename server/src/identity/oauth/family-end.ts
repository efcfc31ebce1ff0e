import { type Agent, isFamilyBeforeEpoch, isLive } from '../agents/agent.ts';
import { isCredentialLive } from '../credentials/credential.ts';
import type { FamilyState } from './refresh-families.sql.ts';

/** Why a family may not be used any more; nothing where it may. */
export function findFamilyEnd(
  family: FamilyState,
  agent: Pick<Agent, 'expiresAt' | 'status' | 'tokensValidFrom'>,
  now: Date,
): string | undefined {
  const credential = { revokedAt: family.credentialRevokedAt, expiresAt: family.credentialExpiresAt };
  if (family.revokedAt !== null) return 'It is revoked';
  if (family.expiresAt <= now) return 'It has expired';
  if (!isLive(agent, now)) return 'Its agent is not active';
  if (isFamilyBeforeEpoch(agent, family.createdAt)) return 'It is of before its agent was stopped';
  if (!isCredentialLive(credential, now)) return 'The credential that it was got with is not good any more';
  if (family.keyRevoked) return 'The key that it is bound to is revoked';
  // One that a key began: whoever rotates wants what was given out before to end, however it was got.
  if (family.secretEndedAt !== null && family.secretEndedAt <= now)
    return "It is of before the rotation of its agent's secret";
  return undefined;
}
