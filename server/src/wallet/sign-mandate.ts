import { insertDelegation, insertLimit } from '../authority/index.ts';
import { type Sql, write, type WriteContext } from '../db/index.ts';
import { linkAgent } from '../identity/index.ts';
import { addSeconds } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import type { EnvironmentId } from '../kernel/ids.ts';
import type { MandateRequest } from './mandate.ts';
import { lockMandateRequest, markSigned } from './mandates.sql.ts';

/**
 * A person agrees: the agent is linked to the environment and gets the delegation that it asked for, in one transaction.
 * Signing what this environment has signed already is no error, and does nothing.
 * Throws `not_found`, also where it was signed for another environment, `mandate_expired`, or `conflict` where the environment has
 * stopped the agent.
 */
export async function signMandate(
  context: WriteContext,
  id: string,
  environmentId: EnvironmentId,
): Promise<MandateRequest> {
  return write(context, async (sql, now) => {
    const mandate = await lockMandateRequest(sql, id);
    // Another environment's mandate is none of the caller's business, not even that it exists.
    if (!mandate || (mandate.environmentId !== null && mandate.environmentId !== environmentId)) {
      throw new AppError('not_found', 'There is no such mandate');
    }
    if (mandate.signedAt !== null) return { result: mandate, audit: null };
    if (now >= mandate.expiresAt) {
      throw new AppError(
        'mandate_expired',
        'Nobody signed in time; the agent has to ask again with POST /v1/mandates/create-intent',
      );
    }
    await grant(sql, mandate, environmentId, context.actor.id, now);
    const data = {
      agent_id: mandate.agentId,
      currency: mandate.currency,
      limit_amount: mandate.limitAmount.toString(),
    };
    return {
      result: { ...mandate, environmentId, signedBy: context.actor.id, signedAt: now },
      audit: { action: 'mandate.signed', resource: mandate.id, scope: environmentId, data },
    };
  });
}

async function grant(
  sql: Sql,
  mandate: MandateRequest,
  environmentId: EnvironmentId,
  signedBy: string,
  now: Date,
): Promise<void> {
  await linkAgent(sql, { environmentId, agentId: mandate.agentId, linkedBy: signedBy, now });
  const { id, agentId, category, hostAllowlist, currency } = mandate;
  await insertDelegation(
    sql,
    {
      environmentId,
      id,
      agentId,
      status: 'active',
      description: mandate.naturalLanguage,
      category,
      hostAllowlist,
      validFrom: now,
      validUntil: addSeconds(now, mandate.validForSeconds),
    },
    now,
  );
  const key = { environmentId, id };
  await insertLimit(sql, key, { kind: 'lifetime', currency, amount: mandate.limitAmount });
  await insertLimit(sql, key, {
    kind: 'per_transaction',
    currency,
    amount: mandate.maxAmountPerTx ?? mandate.limitAmount,
  });
  await markSigned(sql, { id, environmentId, signedBy, now });
}
