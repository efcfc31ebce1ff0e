import type { Sql } from '../db/index.ts';
import { addSeconds } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { type Id, newId } from '../kernel/ids.ts';
import {
  type DelegationKey,
  findDelegation,
  insertDecision,
  insertHold,
  lockLimits,
} from './authority.sql.ts';
import { type Decision, decide, type PaymentRequest } from './decide.ts';

/** A decision as it was recorded, with the budget that it holds. */
export interface RecordedDecision extends Decision {
  id: Id<'decision'>;
  /** Present exactly where the action is ALLOW. */
  holdId: Id<'hold'> | null;
  expiresAt: Date;
}

const decisionSeconds = 600;

/**
 * Decides a payment and, where it is allowed, holds its amount in the same transaction. The limits'
 * rows stay locked until that commits, so that concurrent decisions see each other.
 * Throws `not_found` where there is no such delegation.
 */
export async function decideAndHold(
  sql: Sql,
  delegationKey: DelegationKey,
  request: PaymentRequest,
  now: Date,
): Promise<RecordedDecision> {
  const limits = await lockLimits(sql, delegationKey);
  const delegation = await findDelegation(sql, delegationKey);
  if (!delegation) throw new AppError('not_found', 'There is no such mandate');

  const decision = decide(delegation, limits, request, now);
  const id = newId('decision');
  const expiresAt = addSeconds(now, decisionSeconds);
  await insertDecision(sql, { id, delegation: delegationKey, request, decision, now, expiresAt });
  if (decision.action === 'DENY') return { ...decision, id, holdId: null, expiresAt };

  const holdId = newId('hold');
  const { amount, currency } = request;
  await insertHold(sql, { id: holdId, decisionId: id, delegation: delegationKey, currency, amount, now });
  return { ...decision, id, holdId, expiresAt };
}
