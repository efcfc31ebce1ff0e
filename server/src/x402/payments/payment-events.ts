import type { AuditEvent, Origin, OutboxEntry } from '../../db/index.ts';
import type { Payment } from './payment.ts';

/** The topic under which a settled payment is told to whoever holds the payer's budget. */
export const settledTopic = 'payment.settled';
/** And that the chain has forgotten its settlement: it is due again. */
export const undoneTopic = 'payment.settlement_undone';

/** The one audit event of a payment that was charged, on whichever rail, and what the wallet of one that a chain has settled has to hear. */
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

/** What a payment is told with whose settlement the chain has forgotten. */
export function undoneEvents(payment: Payment): { audit: AuditEvent; outbox: OutboxEntry } {
  const { network, asset, payer, nonce, transaction, environmentId: scope } = payment;
  const origin: Origin = { actor: { kind: 'system', id: 'system' }, requestId: null, clientAddress: null };
  const data = { network, transaction, reason: 'chain_reorganised' };
  return {
    audit: paymentEvent('payment.settlement_undone', payment, origin, data),
    outbox: { topic: undoneTopic, scope, payload: { network, asset, payer, nonce, transaction } },
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
