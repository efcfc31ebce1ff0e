import { randomBytes } from 'node:crypto';
import type { Address, Hex } from 'viem';
import { reach } from '#points';
import { findInTurn, write } from '../../db/index.ts';
import { unixSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import type { Authorization } from '../exact/exact.ts';
import { authorizationOf, type Payment } from '../payments/payment.ts';
import { type ConcludeDeps, concludeUnsent } from './conclude.ts';
import { failedEvent } from '../payments/payment-events.ts';
import {
  endRefund,
  findLapsedRefunds,
  findUndoneOriginals,
  originalNotSettled,
  recordLoss,
  replaceAuthorization,
  type UndoneOriginal,
} from './refunds.sql.ts';

/** Refunds that are looked at in one round: each costs a request or two. */
const refundsMax = 100;

/** A refund whose authorisation can never be used any more, and the one that would take its place. */
export interface LapsedRefund {
  refund: Payment;
  next: Authorization;
}

/**
 * Concludes those that are paid after all. Gives the refunds that ran out unpaid, by the chain's own time, and whose nonce the chain doesn't know as used: no block that can still appear
 * pays them, so that another may be signed and there are never two.
 */
export async function findLapsed({ context, chain }: ConcludeDeps): Promise<LapsedRefund[]> {
  const settledTime = await chain.settledTime();
  const network = chain.network.id;
  const lapsed = await findInTurn(
    context.db,
    { name: `lapsed refunds of ${network}`, limit: refundsMax },
    (after) => findLapsedRefunds(context.db, { network, settledTime, limit: refundsMax, after }),
  );
  const uses = await chain.findUses(lapsed.map(authorizationOf));
  // Somebody else has sent these, after we gave up or ran out of time.
  await concludeUnsent(
    { context, chain },
    lapsed.filter((_refund, index) => uses[index]?.kind === 'settled'),
  );
  const now = BigInt(unixSeconds(context.clock.now()));
  const validBefore = (now > settledTime ? now : settledTime) + BigInt(limits.refundValiditySeconds);
  return lapsed.flatMap((refund, index) =>
    uses[index]?.kind === 'unused'
      ? {
          refund,
          next: {
            from: refund.payer as Address,
            to: refund.payTo as Address,
            value: refund.amount,
            validAfter: refund.validAfter,
            validBefore,
            nonce: `0x${randomBytes(32).toString('hex')}`,
          },
        }
      : [],
  );
}

/** Has a refund paid by another authorisation than its dead one. False where another process was faster. */
export async function renewRefund(
  context: ConcludeDeps['context'],
  { refund, next }: LapsedRefund,
  signature: Hex,
): Promise<boolean> {
  const isOurs = await write({ ...context, scope: refund.environmentId }, async (sql, now) => {
    const renewed = await replaceAuthorization(sql, refund, { ...next, signature }, now);
    await reach('refund-renewing');
    const data = {
      refund_of: refund.refundOf,
      nonce: refund.nonce,
      next_nonce: next.nonce,
      valid_before: next.validBefore.toString(),
    };
    const audit = { action: 'payment.refund_renewed', resource: refund.id, data };
    return { result: renewed, audit: renewed ? audit : null };
  });
  if (isOurs) await reach('refund-renewed');
  return isOurs;
}

/**
 * Ends what is open where a payment was given back, or is to be, and a reorganisation has undone its own settlement for good: a refund
 * that isn't paid never is, and one that is paid is the seller's loss, which is recorded (docs/decisions/0009-what-a-reorganisation-undoes.md). Gives how many it ended.
 */
export async function concludeUndone(deps: ConcludeDeps): Promise<number> {
  const { context, chain } = deps;
  const settledTime = await chain.settledTime();
  const network = chain.network.id;
  const undone = await findInTurn(
    context.db,
    { name: `undone originals of ${network}`, limit: refundsMax },
    async (after) =>
      (await findUndoneOriginals(context.db, { network, settledTime, limit: refundsMax, after })).map(
        (one) => ({
          ...one,
          environmentId: one.original.environmentId,
          id: one.original.id,
        }),
      ),
  );
  const uses = await chain.findUses(undone.map(({ original }) => authorizationOf(original)));
  const paid = undone.filter((_one, index) => uses[index]?.kind === 'settled');
  // Somebody has sent it after all.
  await concludeUnsent(
    deps,
    paid.map(({ original }) => original),
  );
  const dead = undone.filter((_one, index) => ['cancelled', 'unused'].includes(uses[index]?.kind ?? ''));
  for (const one of dead) await conclude(deps, one);
  return dead.length;
}

async function conclude({ context }: ConcludeDeps, one: UndoneOriginal): Promise<void> {
  const { original, refund } = one;
  await write({ ...context, scope: original.environmentId }, async (sql) => {
    if (refund.state !== 'settled') {
      const audit = failedEvent(refund, originalNotSettled, context);
      return { result: undefined, audit: (await endRefund(sql, one)) ? audit : null };
    }
    const data = {
      network: original.network,
      asset: original.asset,
      amount: refund.amount.toString(),
      refund: refund.id,
      transaction: refund.transaction,
      reason: original.failure,
    };
    const audit = { action: 'payment.refund_lost', resource: original.id, data };
    return { result: undefined, audit: (await recordLoss(sql, one)) ? audit : null };
  });
}
