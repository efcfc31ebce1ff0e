import type { AgentId, DelegationId, EnvironmentId } from '../kernel/ids.ts';

/** A delegation that an agent asked for. Its id is the delegation's, once a person has signed. */
export interface MandateRequest {
  id: DelegationId;
  agentId: AgentId;
  naturalLanguage: string;
  category: string | null;
  currency: string;
  limitAmount: bigint;
  /** What one payment may cost; the whole limit where nothing is said. */
  maxAmountPerTx: bigint | null;
  validForSeconds: number;
  hostAllowlist: string[];
  environmentId: EnvironmentId | null;
  signedBy: string | null;
  signedAt: Date | null;
  createdAt: Date;
  /** Until when it may be signed. */
  expiresAt: Date;
}

export type MandateStatus = 'exhausted' | 'expired' | 'pending_signature' | 'signed';

/** The life of a mandate as its agent sees it: from the request's own dates and, once signed, the budget that is left. */
export function mandateStatus(mandate: MandateRequest, remaining: bigint | null, now: Date): MandateStatus {
  if (mandate.signedAt === null) return now < mandate.expiresAt ? 'pending_signature' : 'expired';
  const validUntil = mandate.signedAt.getTime() + mandate.validForSeconds * 1000;
  if (now.getTime() >= validUntil) return 'expired';
  return remaining === 0n ? 'exhausted' : 'signed';
}
