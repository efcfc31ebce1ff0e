import { write, type WriteContext } from '../db/index.ts';
import { type ActingAgent, getActingAgent } from '../identity/index.ts';
import { addSeconds } from '../kernel/clock.ts';
import { newId } from '../kernel/ids.ts';
import { limits } from '../kernel/limits.ts';
import type { MandateRequest } from './mandate.ts';
import { insertMandateRequest } from './mandates.sql.ts';

export type MandateIntent = Pick<
  MandateRequest,
  | 'category'
  | 'currency'
  | 'hostAllowlist'
  | 'limitAmount'
  | 'maxAmountPerTx'
  | 'naturalLanguage'
  | 'validForSeconds'
>;

/** Asks for a mandate. Nobody has agreed to anything yet: a person signs within ten minutes, or it lapses. */
export async function requestMandate(
  context: WriteContext,
  acting: ActingAgent,
  intent: MandateIntent,
): Promise<MandateRequest> {
  const { agentId } = acting;
  return write(context, async (sql, now) => {
    await getActingAgent(sql, acting, now);
    const mandate: MandateRequest = {
      ...intent,
      id: newId('delegation'),
      agentId,
      environmentId: null,
      signedBy: null,
      signedAt: null,
      createdAt: now,
      expiresAt: addSeconds(now, limits.mandateRequestSeconds),
    };
    await insertMandateRequest(sql, mandate);
    const data = {
      agent_id: agentId,
      currency: intent.currency,
      limit_amount: intent.limitAmount.toString(),
    };
    return { result: mandate, audit: { action: 'mandate.requested', resource: mandate.id, data } };
  });
}
