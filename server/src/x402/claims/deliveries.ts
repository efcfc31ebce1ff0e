import { randomBytes } from 'node:crypto';
import type { Address, Hex } from 'viem';
import { reach } from '#points';
import { findInTurn, write, type WriteContext } from '../../db/index.ts';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import { sha256 } from '../../kernel/crypto.ts';
import { newId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { insertClaims } from './claims.sql.ts';
import { beginDelivery, endDelivery, endStreamWait, findUndelivered } from './deliveries.sql.ts';
import type { Authorization } from '../exact/exact.ts';
import type { Payment, StoredResponse } from '../payments/payment.ts';
import { attemptLeaseSeconds, sealResponse } from './stored-response.ts';

/** How the delivery of a paid answer ended. */
export type DeliveryEnd =
  /** The upstream failed. With a refund the payment is done with; without one it may be tried again. */
  | { kind: 'failed'; failure: string; refund: Payment | undefined }
  | { kind: 'responded'; response: StoredResponse };

/** Takes over the delivery that a settled payment is owed. Nothing where it has been made, or another is at it. */
export async function takeDelivery(context: WriteContext, payment: Payment): Promise<Payment | undefined> {
  const taken = await write(context, async (sql, now) => ({
    result: await beginDelivery(sql, payment, addSeconds(now, attemptLeaseSeconds), now),
    audit: null,
  }));
  if (taken) await reach('delivery-taken');
  return taken;
}

/**
 * Says that a stream has begun to reach its client (`done`), or that it never will, and is owed to whoever comes with the payment. Until
 * then the delivery is its attempt's, and a copy of the call takes it over once the lease is out. False where another has it by now.
 */
export async function releaseDelivery(
  context: WriteContext,
  payment: Payment,
  delivery: 'done' | 'owed',
): Promise<boolean> {
  const isOurs = await write(context, async (sql) => ({
    result: await endStreamWait(sql, payment, delivery),
    audit: null,
  }));
  if (isOurs && delivery === 'done') await reach('delivery-ended');
  return isOurs;
}

/** Ends a delivery that was taken. False where it was given up meanwhile: then another has it. */
export async function finishDelivery(
  context: WriteContext,
  payment: Payment,
  end: DeliveryEnd,
): Promise<boolean> {
  const stored = end.kind === 'responded' ? sealResponse(context.box, payment, end.response) : null;
  const refund = end.kind === 'failed' ? end.refund : undefined;
  const isOurs = await write(context, async (sql, now) => {
    const delivery = end.kind !== 'failed' ? 'done' : refund ? 'refunded' : 'owed';
    const ended = await endDelivery(
      sql,
      payment,
      {
        delivery,
        failure: end.kind === 'failed' ? end.failure : null,
        stored,
        storedUntil: addSeconds(now, limits.storedResponseSeconds),
      },
      now,
    );
    if (ended && refund)
      await insertClaims(sql, [{ payment: refund, fingerprint: refundFingerprint(payment) }], now);
    if (!ended || end.kind !== 'failed') return { result: ended, audit: null };
    const data = { failure: end.failure, ...(refund ? { refund: refund.id } : {}) };
    return { result: ended, audit: { action: 'payment.upstream_failed', resource: payment.id, data } };
  });
  if (isOurs) await reach('delivery-ended');
  return isOurs;
}

/** Payments that were settled a while ago, and whose answer nobody has come for. */
export async function findOwed(context: Pick<WriteContext, 'db'>): Promise<Payment[]> {
  const limit = limits.paymentBatch;
  return findInTurn(context.db, { name: 'owed deliveries', limit }, (after) =>
    findUndelivered(context.db, { settledForSeconds: limits.owedDeliverySeconds, limit, after }),
  );
}

/** The transfer that would give a payment back, for its payee to sign. */
export function refundAuthorization(payment: Payment, now: Date): Authorization {
  return {
    from: payment.payTo as Address,
    to: payment.payer as Address,
    value: payment.amount,
    validAfter: 0n,
    validBefore: BigInt(unixSeconds(addSeconds(now, limits.refundValiditySeconds))),
    nonce: `0x${randomBytes(32).toString('hex')}`,
  };
}

/** A refund as a payment of ours: due at once, and settled as all others are. */
export function refundOf(payment: Payment, authorization: Authorization, signature: Hex, now: Date): Payment {
  return {
    environmentId: payment.environmentId,
    serverId: null,
    endpointId: null,
    id: newId('payment'),
    network: payment.network,
    asset: payment.asset,
    payer: authorization.from,
    payTo: authorization.to,
    amount: authorization.value,
    validAfter: authorization.validAfter,
    validBefore: authorization.validBefore,
    nonce: authorization.nonce,
    signature,
    mode: 'upfront',
    agentId: payment.agentId,
    agentVerified: payment.agentVerified,
    clientAddress: payment.clientAddress,
    termsSecretHash: null,
    state: 'responded',
    attempt: 0,
    leaseUntil: null,
    delivery: null,
    replayable: true,
    transaction: null,
    failure: null,
    refundOf: payment.id,
    createdAt: now,
    settledAt: null,
  };
}

function refundFingerprint(payment: Payment): Buffer {
  return sha256(`refund ${payment.environmentId} ${payment.id}`);
}
