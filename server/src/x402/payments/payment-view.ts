import { type Static, Type } from 'typebox';
import { unixSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { hasLiveLease, isFacilitated, type PaymentState } from './payment.ts';
import type { ListedPayment } from './payments.sql.ts';

/**
 * How far a payment has come, in x402's words. Whether a transaction is under way already, or is about to be, is nothing that anyone
 * outside could act upon: both are `settlement_pending`.
 */
export const PublicState = Type.Union(
  [
    Type.Literal('claimed'),
    Type.Literal('forwarding'),
    Type.Literal('settlement_pending'),
    Type.Literal('settled'),
    Type.Literal('settlement_failed'),
  ],
  {
    description:
      'claimed: nothing runs, nothing is charged; forwarding: the API is at work; settlement_pending: the money is due and the chain has not spoken',
  },
);
type PublicState = Static<typeof PublicState>;

const toPublic: Readonly<Record<PaymentState, PublicState>> = {
  open: 'claimed',
  forwarding: 'forwarding',
  responded: 'settlement_pending',
  settling: 'settlement_pending',
  settled: 'settled',
  settlement_failed: 'settlement_failed',
};

/** The rows' states that one public state stands for. */
export function statesOf(state: PublicState): PaymentState[] {
  return Object.entries(toPublic).flatMap(([own, shown]) => (shown === state ? [own as PaymentState] : []));
}

const Nullable = Type.Union([Type.String(), Type.Null()]);

export const NextStep = Type.Object({
  action: Type.Union(
    [Type.Literal('resend'), Type.Literal('wait'), Type.Literal('sign_new'), Type.Literal('none')],
    {
      description:
        'resend: the same request with the same payment; wait: ask again, and sign nothing; sign_new: this payment buys nothing any more, and costs nothing; none: it is done',
    },
  ),
  detail: Type.String(),
});

const payersMembers = {
  id: Type.String(),
  state: PublicState,
  mode: Type.String({ description: 'after_success, optimistic or upfront' }),
  network: Type.String(),
  asset: Type.String(),
  amount: Type.String({ description: 'Atomic units of the asset' }),
  payer: Type.String(),
  pay_to: Type.String(),
  nonce: Type.String(),
  transaction: Nullable,
  failure: Nullable,
  delivery: Type.Union([Type.String(), Type.Null()], {
    description:
      'Of an answer that is given after it is charged: owed, running, done, refunded, or lost (refunded, and then its own settlement was undone for good); null where it is stored before. Of a payment that the facilitator settled: done once a settle call was answered with success',
  }),
  replayable: Type.Boolean({
    description: 'Whether the answer is kept, and given again for the same payment',
  }),
  next: NextStep,
  expires_at: Type.String({ format: 'date-time', description: 'When the authorisation runs out' }),
  created_at: Type.String({ format: 'date-time' }),
  settled_at: Type.Union([Type.String({ format: 'date-time' }), Type.Null()]),
};

/** A payment as its payer sees it. */
export const PayersPaymentView = Type.Object(payersMembers);

/** A payment as its seller sees it. */
export const PaymentView = Type.Object({
  ...payersMembers,
  server_id: Nullable,
  endpoint_id: Nullable,
  agent_id: Type.Union([Type.String(), Type.Null()], {
    description: 'What X-Agent-ID said; null where the facilitator took the payment',
  }),
  agent_verified: Type.Boolean(),
  refund_of: Type.Union([Type.String(), Type.Null()], {
    description: 'The payment that this one gives back',
  }),
});

export function presentToPayer(listed: ListedPayment, now: Date): Static<typeof PayersPaymentView> {
  const { payment } = listed;
  return {
    id: payment.id,
    state: toPublic[payment.state],
    mode: payment.mode,
    network: payment.network,
    asset: payment.asset,
    amount: payment.amount.toString(),
    payer: payment.payer,
    pay_to: payment.payTo,
    nonce: payment.nonce,
    transaction: payment.transaction,
    failure: payment.failure,
    delivery: payment.delivery,
    replayable: isKept(listed, now),
    next: nextStep(listed, now),
    expires_at: new Date(Number(payment.validBefore) * 1000).toISOString(),
    created_at: payment.createdAt.toISOString(),
    settled_at: payment.settledAt?.toISOString() ?? null,
  };
}

export function presentPayment(listed: ListedPayment, now: Date): Static<typeof PaymentView> {
  const { serverId, endpointId, agentId, agentVerified, refundOf } = listed.payment;
  return {
    ...presentToPayer(listed, now),
    server_id: serverId,
    endpoint_id: endpointId,
    agent_id: isFacilitated(listed.payment) ? null : agentId,
    agent_verified: agentVerified,
    refund_of: refundOf,
  };
}

/** What whoever holds the payment does best now. Never `sign_new` while this one may still be charged. */
export function nextStep(listed: ListedPayment, now: Date): Static<typeof NextStep> {
  const { payment } = listed;
  const secondsLeft = Number(payment.validBefore) - unixSeconds(now);
  switch (payment.state) {
    case 'open':
      return secondsLeft < limits.upstreamTimeoutSeconds + limits.settlementMarginSeconds
        ? {
            action: 'sign_new',
            detail: 'Nothing was charged, and it runs out before another attempt could end',
          }
        : { action: 'resend', detail: 'Nothing was charged; the same request may be tried again with it' };
    case 'forwarding':
      return hasLiveLease(payment, now)
        ? { action: 'wait', detail: 'The API is at work; the same request with it gets the answer' }
        : {
            action: 'resend',
            detail: 'Its attempt was interrupted; the same request may be tried again with it',
          };
    case 'responded':
    case 'settling':
      return { action: 'wait', detail: 'It is on its way to the chain: do not sign another' };
    case 'settlement_failed':
      return secondsLeft <= 0
        ? { action: 'sign_new', detail: 'It could not be settled, and has run out uncharged' }
        : {
            action: 'resend',
            detail: 'It could not be settled; sent again, only the settlement is tried again',
          };
    case 'settled':
      return nextOfSettled(listed, now);
  }
}

function nextOfSettled(listed: ListedPayment, now: Date): Static<typeof NextStep> {
  const { payment } = listed;
  if (isKept(listed, now))
    return {
      action: 'resend',
      detail: 'It is paid; the same request with it gives the kept answer, uncharged',
    };
  if (payment.delivery === 'refunded')
    return { action: 'sign_new', detail: 'It was paid, the API failed, and it is given back' };
  if (payment.delivery === 'running' && hasLiveLease(payment, now))
    return {
      action: 'wait',
      detail: 'It is paid and the API is at work; the same request with it gets the answer',
    };
  if (payment.delivery === 'owed' || payment.delivery === 'running')
    return { action: 'resend', detail: 'It is paid; the same request with it gets the answer that is owed' };
  return { action: 'none', detail: 'It is paid, and no answer is kept' };
}

function isKept({ payment, answerKeptUntil }: ListedPayment, now: Date): boolean {
  return payment.replayable && answerKeptUntil !== null && answerKeptUntil > now;
}
