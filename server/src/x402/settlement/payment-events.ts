import type { AuditEvent, Origin, OutboxEntry } from '../../db/index.ts';
import type { Payment } from '../payments/payment.ts';

/** The topic under which a settled payment is told to whoever holds the payer's budget. */
export const settledTopic = 'payment.settled';

/** The one audit event of a payment that was charged, on whichever rail, and what the payer's wallet has to hear. */
export function settledEvents(
  payment: Payment,
  transaction: string,
  origin: Origin,
): { audit: AuditEvent; outbox: OutboxEntry } {
  const { network, asset, payer, nonce, environmentId: scope } = payment;
  return {
    audit: paymentEvent('payment.settled', payment, origin, { ...movedBy(payment), transaction }),
    outbox: { topic: settledTopic, scope, payload: { network, asset, payer, nonce, transaction } },
  };
}

/** The one audit event of a payment that could not be charged. */
export function failedEvent(payment: Payment, failure: string, origin: Origin): AuditEvent {
  const data = { ...movedBy(payment), transaction: null, reason: failure };
  return paymentEvent('payment.settlement_failed', payment, origin, data);
}

function movedBy({ network, asset, payer, payTo, amount }: Payment) {
  return { network, asset, payer, pay_to: payTo, amount: amount.toString() };
}

function paymentEvent(
  action: string,
  { id, environmentId }: Payment,
  { actor, requestId, clientAddress }: Origin,
  data: NonNullable<AuditEvent['data']>,
): AuditEvent {
  return { action, resource: id, scope: environmentId, actor, requestId, clientAddress, data };
}
