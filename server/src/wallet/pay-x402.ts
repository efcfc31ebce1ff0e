import { randomBytes } from 'node:crypto';
import { getAddress } from 'viem';
import { decideAndHold, type RecordedDecision } from '../authority/index.ts';
import { write, type WriteContext } from '../db/index.ts';
import { type ActingAgent, findAgentActingIn } from '../identity/index.ts';
import { unixSeconds } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { type AgentId, type EnvironmentId, newId } from '../kernel/ids.ts';
import { limits } from '../kernel/limits.ts';
import type { Network, PaymentRequired, PaymentRequiredV1 } from '../x402/index.ts';
import type { MandateRequest } from './mandate.ts';
import { findMandateRequest } from './mandates.sql.ts';
import { findOffer, isSameAddress, type Offer } from './offer.ts';
import { authorizationOf, type OutgoingPayment } from './outgoing-payment.ts';
import { insertOutgoingPayment } from './outgoing-payments.sql.ts';
import { findWallet, signTransfer, type Wallet } from './wallet.ts';

/** Ties a payee to a resource by our own knowledge of it: who is paid for what is sold at this URL. */
export type PayeeDirectory = (resource: URL, network: Network) => Promise<string | undefined>;

/** What a wallet asks of others: which chain, and who is paid. */
export interface WalletDeps {
  /** The network that an environment's wallet is on. */
  networkOf(environmentId: EnvironmentId): Promise<Network>;
  findPayee: PayeeDirectory;
  /** Where a person signs a mandate. */
  authorizationUrl(mandateId: string): string;
}

/** A payment ready to be sent, in the header it belongs in. */
export interface SignedPayment {
  payment: OutgoingPayment;
  headerName: string;
  header: string;
  expiresAt: Date;
}

/**
 * Pays what a 402 of either version asks for, within a mandate: decide, hold, sign (FEATURES E2). Decision, hold and payment are written in
 * one transaction before the key is used; a crash between them leaves a hold that ends when the payment has expired.
 * Throws `mandate_not_signed` with where to sign, `payment_denied` with the decision, or `invalid_request` where no offer
 * of the 402 can be paid.
 */
export async function payX402(
  context: WriteContext,
  deps: WalletDeps,
  args: { agent: ActingAgent; mandateId: string; required: PaymentRequired | PaymentRequiredV1 },
): Promise<SignedPayment> {
  const { agentId } = args.agent;
  const mandate = await findSignedMandate(context, deps, { ...args, agentId });
  const network = await deps.networkOf(mandate.environmentId);
  const wallet = await findWallet(context.db, mandate.environmentId, network.id);
  if (!wallet) throw new AppError('conflict', 'The environment of this mandate has no wallet');
  const offer = findOffer(args.required, network);
  const { amount, resource } = offer;
  const payee = await deps.findPayee(resource, network);

  const outcome = await write({ ...context, scope: mandate.environmentId }, async (sql, now) => {
    // What let the request in may be some seconds old, and a signed payment can't be taken back.
    const agent = await findAgentActingIn(sql, mandate.environmentId, args.agent, now);
    const decision = await decideAndHold(
      sql,
      { environmentId: mandate.environmentId, id: mandate.id },
      {
        agentId,
        agentActive: agent !== undefined,
        amount,
        currency: network.asset.currency,
        resource,
        payeeVerified: payee !== undefined && isSameAddress(offer.payTo, getAddress(payee)),
      },
      now,
    );
    const payment = newOutgoingPayment({
      mandate,
      wallet,
      network,
      offer,
      decision,
      agentId,
      now,
    });
    if (payment) await insertOutgoingPayment(sql, payment);
    return { result: { decision, payment }, audit: auditOf(decision, payment, mandate, amount) };
  });

  const { decision, payment } = outcome;
  if (!payment) throw denied(decision);
  const signature = await signTransfer(context, wallet, network, authorizationOf(payment));
  const exact = {
    network: network.id,
    asset: network.asset.address,
    authorization: authorizationOf(payment),
    signature,
  };
  const header = offer.header(exact);
  return {
    payment,
    headerName: header.name,
    header: header.value,
    expiresAt: new Date(Number(payment.validBefore) * 1000),
  };
}

async function findSignedMandate(
  context: WriteContext,
  deps: WalletDeps,
  args: { agentId: AgentId; mandateId: string },
): Promise<MandateRequest & { environmentId: NonNullable<MandateRequest['environmentId']> }> {
  const mandate = await findMandateRequest(context.db, args.mandateId);
  if (!mandate || mandate.agentId !== args.agentId)
    throw new AppError('not_found', 'There is no such mandate of this agent');
  if (mandate.environmentId !== null) return { ...mandate, environmentId: mandate.environmentId };
  if (context.clock.now() >= mandate.expiresAt) {
    throw new AppError(
      'mandate_expired',
      'Nobody signed in time; ask again with POST /v1/mandates/create-intent',
    );
  }
  const authorizationUrl = deps.authorizationUrl(mandate.id);
  throw new AppError(
    'mandate_not_signed',
    `Ask your user to open ${authorizationUrl} and sign, then try again`,
    {
      next: { authorizationUrl },
      extra: { authorizationUrl },
    },
  );
}

function newOutgoingPayment(args: {
  mandate: { environmentId: OutgoingPayment['environmentId']; id: OutgoingPayment['delegationId'] };
  wallet: Wallet;
  network: Network;
  offer: Offer;
  decision: RecordedDecision;
  agentId: AgentId;
  now: Date;
}): OutgoingPayment | undefined {
  const { mandate, wallet, network, offer, decision, now } = args;
  if (decision.holdId === null) return undefined;
  const seconds = Math.min(offer.maxTimeoutSeconds, limits.paymentTimeoutSeconds);
  return {
    environmentId: mandate.environmentId,
    id: newId('outgoing_payment'),
    agentId: args.agentId,
    delegationId: mandate.id,
    decisionId: decision.id,
    holdId: decision.holdId,
    network: network.id,
    asset: network.asset.address,
    payer: wallet.address,
    nonce: `0x${randomBytes(32).toString('hex')}`,
    payTo: getAddress(offer.payTo),
    amount: offer.amount,
    resource: offer.resource.href,
    validBefore: BigInt(unixSeconds(now) + seconds),
    state: 'signed',
    transaction: null,
    createdAt: now,
  };
}

function auditOf(
  decision: RecordedDecision,
  payment: OutgoingPayment | undefined,
  mandate: MandateRequest,
  amount: bigint,
) {
  const data = {
    decision_id: decision.id,
    mandate_id: mandate.id,
    amount: amount.toString(),
    reason_codes: decision.reasonCodes,
  };
  return payment
    ? { action: 'payment.signed', resource: payment.id, data }
    : { action: 'payment.denied', resource: decision.id, data };
}

function denied(decision: RecordedDecision): AppError {
  return new AppError(
    'payment_denied',
    `The mandate does not allow this payment: ${decision.reasonCodes.join(', ')}`,
    {
      extra: {
        decision: {
          decision_id: decision.id,
          allowed: false,
          action: decision.action,
          reason_codes: decision.reasonCodes,
          max_amount: decision.maxAmount.toString(),
          expires_at: decision.expiresAt.toISOString(),
        },
      },
    },
  );
}
