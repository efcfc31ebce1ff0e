import { type Sql, write, type WriteContext } from '../db/index.ts';
import { addSeconds } from '../kernel/clock.ts';
import { sha256 } from '../kernel/crypto.ts';
import { newId } from '../kernel/ids.ts';
import { limits } from '../kernel/limits.ts';
import type { ReceivedPayment } from './wire.ts';
import { lockPayer, sumClaimed } from './payers.sql.ts';
import { isSamePayment, type Payment, type StoredResponse, storedResponseRow } from './payment.ts';
import {
  beginAttempt,
  type Claim,
  endAttempt,
  findClaim,
  findSealedResponse,
  insertClaim,
  insertPayment,
  insertStoredResponse,
} from './payments.sql.ts';

/** An attempt that is cut at its time-out has ended by then; the rest is for storing its answer. */
const attemptLeaseSeconds = limits.upstreamTimeoutSeconds + 5;

/** Who presents a payment, as far as that matters for giving its answer out. */
export interface Presenter {
  agentId: string;
  /** The id is the subject of a token of ours, and not just a word in a header. */
  agentVerified: boolean;
  clientAddress: string;
  termsSecret: string | null;
}

/** A payer's balance, and when the chain was asked for it: what was settled since isn't in it. */
export interface KnownBalance {
  atomic: bigint;
  readAt: Date;
}

/** Why a payment that is good in itself isn't claimed. */
export type ClaimRefusal = 'insufficient_funds' | 'payer_suspended';

type Claimed = { kind: 'claimed'; payment: Payment } | { kind: 'refused'; reason: ClaimRefusal };

/**
 * Claims a payment for one request, with its first upstream attempt: one transaction, before anything else happens.
 * Refused where the payer's balance doesn't cover it beside the payer's other unsettled payments: a payer with one cent gets one
 * upstream run, however many nonces it signs. Gives the earlier claim where the authorisation was presented before, whichever process got there first.
 */
export async function claimPayment(
  context: WriteContext,
  args: {
    sent: ReceivedPayment;
    presenter: Presenter;
    fingerprint: Buffer;
    target: Pick<Payment, 'endpointId' | 'environmentId' | 'serverId'>;
    balance: KnownBalance;
  },
): Promise<Claimed | { kind: 'known'; claim: Claim }> {
  const claimed = await write<Claimed | undefined>(context, async (sql, now) => {
    const payment = newPayment(args, now);
    const reason = await findRefusal(sql, payment, args.balance, now);
    if (reason) return { result: { kind: 'refused', reason }, audit: null };
    // A step on the way: the outcome (settled, upstream failed, settlement failed) has the audit event.
    if (!(await insertClaim(sql, payment, args.fingerprint, now))) return { result: undefined, audit: null };
    await insertPayment(sql, payment);
    return { result: { kind: 'claimed', payment }, audit: null };
  });
  if (claimed) return claimed;
  const claim = await findClaim(context.db, args.sent);
  if (!claim) throw new Error('a claim exists and has no payment');
  return { kind: 'known', claim };
}

/** Takes over a payment whose upstream failed, or whose process is gone. Nothing where somebody else was faster. */
export async function retryAttempt(
  context: WriteContext,
  payment: Payment,
  balance: KnownBalance,
): Promise<Payment | ClaimRefusal | undefined> {
  return write<Payment | ClaimRefusal | undefined>(context, async (sql, now) => {
    const reason = await findRefusal(sql, payment, balance, now);
    if (reason) return { result: reason, audit: null };
    const result = await beginAttempt(sql, payment, addSeconds(now, attemptLeaseSeconds), now);
    return { result, audit: null };
  });
}

/** Under the payer's lock, so that claims at the same moment see each other. */
async function findRefusal(
  sql: Sql,
  payment: Payment,
  balance: KnownBalance,
  now: Date,
): Promise<ClaimRefusal | undefined> {
  const { suspendedUntil } = await lockPayer(sql, payment);
  if (suspendedUntil && suspendedUntil > now) return 'payer_suspended';
  const claimed = await sumClaimed(sql, payment, balance.readAt);
  return claimed + payment.amount > balance.atomic ? 'insufficient_funds' : undefined;
}

/** The upstream failed: nothing is charged, and the same request may be tried again with the same payment. */
export async function reopenPayment(context: WriteContext, payment: Payment, failure: string): Promise<void> {
  await write(context, async (sql, now) => {
    const ended = await endAttempt(sql, payment, { state: 'open', failure }, now);
    const audit = { action: 'payment.upstream_failed', resource: payment.id, data: { failure } };
    return { result: undefined, audit: ended ? audit : null };
  });
}

/** Stores the answer before it is charged. False where the attempt was given up meanwhile: then it isn't ours to charge. */
export async function storeResponse(
  context: WriteContext,
  payment: Payment,
  response: StoredResponse,
): Promise<boolean> {
  const sealed = context.box.seal(encodeResponse(response), storedResponseRow(payment));
  return write(context, async (sql, now) => {
    const ended = await endAttempt(sql, payment, { state: 'responded', failure: null }, now);
    if (ended) {
      const expiresAt = addSeconds(now, limits.storedResponseSeconds);
      const bodyHash = sha256(response.body);
      await insertStoredResponse(sql, payment, { status: response.status, sealed, bodyHash, now, expiresAt });
    }
    return { result: ended, audit: null };
  });
}

/** The stored answer; nothing once it has been swept. */
export async function findStoredResponse(
  context: Pick<WriteContext, 'box' | 'db'>,
  payment: Payment,
): Promise<StoredResponse | undefined> {
  const row = await findSealedResponse(context.db, payment);
  if (!row?.sealed) return undefined;
  return decodeResponse(row.status, context.box.open(row.sealed, storedResponseRow(payment)));
}

/** Whether a payment that was claimed before is presented for what it was claimed for. */
export function isForSameRequest(claim: Claim, sent: ReceivedPayment, fingerprint: Buffer): boolean {
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

function newPayment(args: Parameters<typeof claimPayment>[1], now: Date): Payment {
  const { sent, presenter, target } = args;
  const { authorization } = sent;
  return {
    ...target,
    id: newId('payment'),
    network: sent.network as Payment['network'],
    asset: sent.asset,
    payer: authorization.from,
    nonce: authorization.nonce,
    payTo: authorization.to,
    amount: authorization.value,
    validAfter: authorization.validAfter,
    validBefore: authorization.validBefore,
    signature: sent.signature,
    agentId: presenter.agentId,
    agentVerified: presenter.agentVerified,
    clientAddress: presenter.clientAddress,
    termsSecretHash: presenter.termsSecret === null ? null : sha256(presenter.termsSecret),
    state: 'forwarding',
    attempt: 1,
    leaseUntil: addSeconds(now, attemptLeaseSeconds),
    transaction: null,
    failure: null,
    createdAt: now,
    settledAt: null,
  };
}

/** Headers as JSON behind their length, then the body as it is. */
function encodeResponse(response: StoredResponse): Buffer {
  const head = Buffer.from(JSON.stringify(response.headers));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(head.length);
  return Buffer.concat([length, head, response.body]);
}

function decodeResponse(status: number, plain: Buffer): StoredResponse {
  const bodyStart = 4 + plain.readUInt32BE();
  const headers = JSON.parse(plain.subarray(4, bodyStart).toString()) as string[];
  return { status, headers, body: plain.subarray(bodyStart) };
}
