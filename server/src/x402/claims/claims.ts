import { write, type WriteContext } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { sha256 } from '../../kernel/crypto.ts';
import { limits } from '../../kernel/limits.ts';
import { endAttempts } from './attempts.sql.ts';
import { moveCredits } from '../credits/credit-transfers.ts';
import { isCreditPayment } from '../credits/credit-payment.ts';
import { isSamePayment, type Payment, type PaymentFacts } from '../payments/payment.ts';
import type { Presenter } from './lane-jobs.ts';
import type { Claim } from '../payments/payments.sql.ts';

/** Whether a payment that was claimed before is presented for what it was claimed for. */
export function isForSameRequest(claim: Claim, sent: PaymentFacts, fingerprint: Buffer): boolean {
  return isSamePayment(sent, claim.payment) && claim.fingerprint.equals(fingerprint);
}

/**
 * Whether this presenter may have the paid answer. Knowing the payment isn't enough: once
 * settled, the authorisation is public on the chain.
 */
export function mayFetch(payment: Payment, presenter: Presenter, now: Date): boolean {
  const { termsSecret } = presenter;
  if (termsSecret !== null && payment.termsSecretHash?.equals(sha256(termsSecret))) return true;
  if (presenter.agentId !== payment.agentId) return false;
  if (presenter.agentVerified && payment.agentVerified) return true;
  const recent = now < addSeconds(payment.createdAt, limits.retryWithoutSecretSeconds);
  // A verified agent's id is no secret: saying it without the token shows nothing.
  const samePlace = presenter.clientAddress !== '' && presenter.clientAddress === payment.clientAddress;
  return recent && !payment.agentVerified && samePlace;
}

/** Reopens a payment whose process is gone: nothing is charged, and the same request may be tried again with the same payment. */
export async function reopenPayment(context: WriteContext, payment: Payment, failure: string): Promise<void> {
  await write(context, async (sql, now) => {
    const attempt = {
      payment,
      state: 'open',
      failure,
      transaction: null,
      delivery: null,
      leaseUntil: null,
      replayable: true,
      stored: null,
    } as const;
    const ended = await endAttempts(sql, [attempt], now, now);
    if (ended.size > 0 && isCreditPayment(payment))
      await moveCredits(sql, { begun: [], ended: [{ payment, charged: false }] }, now);
    const audit = { action: 'payment.upstream_failed', resource: payment.id, data: { failure } };
    return { result: undefined, audit: ended.size > 0 ? audit : null };
  });
}
