import { reach } from '#points';
import { type Database, refuseReusedKey, write, type WriteContext } from '../../db/index.ts';
import { type Clock, unixSeconds } from '../../kernel/clock.ts';
import { AppError } from '../../kernel/errors.ts';
import type { ApiKeyId, EnvironmentId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import type { Chain } from '../chain/chain.ts';
import { isForSameRequest } from '../claims/claims.ts';
import { sumClaimed } from '../claims/payer-sums.sql.ts';
import type { ExactFault, Terms } from '../exact/exact.ts';
import type { FacilitatorRequest } from './facilitator-wire.ts';
import type { Network } from '../networks.ts';
import { licenceDelivery } from './licence.sql.ts';
import { findSuspension } from '../claims/payers.sql.ts';
import { isFacilitated, type Payment } from '../payments/payment.ts';
import type { PaymentLane } from '../claims/payment-lane.ts';
import { type Claim, findClaim, findPendingTransaction } from '../payments/payments.sql.ts';
import type { KnownBalance } from '../claims/plan-claims.ts';
import { exactRail, type Rail } from '../rail.ts';
import type { Settlement } from '../settlement/settlement.ts';
import type { Settler } from '../settlement/settler.ts';

/** What speaks against a payment, in the words of x402's specification (v2, section 9), `payer_suspended` apart. */
export type FacilitatorFault = ExactFault | 'invalid_x402_version' | 'payer_suspended' | 'unsupported_scheme';

export interface FacilitatorDeps {
  db: Database;
  clock: Clock;
  chains: ReadonlyMap<string, { chain: Chain; settler: Settler }>;
  payments: PaymentLane;
  /** How many payments one environment may have settled a day. */
  settlementsPerDay: number;
}

/** What became of a settlement that somebody else's API asked for. */
export type FacilitatorSettlement =
  /** Nothing was claimed, or what was claimed isn't this call's. */
  | { kind: 'refused'; reason: FacilitatorFault; message?: string }
  | { kind: 'failed'; reason: string; payment: Payment }
  | { kind: 'pending'; transaction: string; payment: Payment }
  | { kind: 'settled'; transaction: string; payment: Payment };

/** For whom a payment is settled: the environment of an API key, and the one network of it. */
export interface SettlingFor {
  environmentId: EnvironmentId;
  apiKeyId: ApiKeyId;
  network: Network;
}

/** Whether settling this payment for these terms would go through now; says why not. Writes nothing. */
export async function verifyPayment(
  deps: Omit<FacilitatorDeps, 'payments' | 'settlementsPerDay'>,
  request: FacilitatorRequest,
): Promise<FacilitatorFault | undefined> {
  const { db, clock } = deps;
  const rail = openRail(deps, request);
  if (typeof rail === 'string') return rail;
  const now = clock.now();
  const balance = await check(rail, now);
  if (typeof balance === 'string') return balance;
  const claim = await findClaim(db, rail.facts);
  // Only what failed here for the same terms may be settled again; a payment under way is used, whoever asks.
  if (claim && !(isRetryable(claim) && isForSameRequest(claim, rail.facts, request.fingerprint)))
    return 'invalid_transaction_state';
  return balance === undefined ? undefined : findClaimFault(deps, rail, balance, now);
}

/**
 * Settles a payment for somebody else's API: claims it first, for these terms and this environment, so that it is charged once
 * whoever asks how often. A success is what that API delivers on, so that one call hears of it, and again only with its
 * `Idempotency-Key`; to any other the payment is used. Throws `quota_exceeded`, `idempotency_key_reused`, and `unavailable` where the
 * chain can't be asked.
 */
export async function settlePayment(
  deps: FacilitatorDeps,
  context: WriteContext,
  settlingFor: SettlingFor,
  request: FacilitatorRequest,
): Promise<FacilitatorSettlement> {
  await refuseReusedKey(context);
  const settlement = await settle(deps, context, settlingFor, request);
  if (settlement.kind !== 'settled') return settlement;
  const isTheirs = await isLicensed(context, settlement.payment);
  await reach('answering');
  return isTheirs ? settlement : refuse('invalid_transaction_state', delivered);
}

/** Whether this call may hear that the payment is settled: the first, and its own retries. */
async function isLicensed(context: WriteContext, payment: Payment): Promise<boolean> {
  // Most copies come late: they needn't write to hear that they are.
  if (payment.delivery === 'done' && !context.idempotency) return false;
  return write(context, async (sql) => ({
    result: await licenceDelivery(sql, payment),
    // The end of its settlement has written the event.
    audit: null,
  }));
}

async function settle(
  deps: FacilitatorDeps,
  context: WriteContext,
  settlingFor: SettlingFor,
  request: FacilitatorRequest,
): Promise<FacilitatorSettlement> {
  const { network } = settlingFor;
  if (request.network !== network.id) {
    return refuse('invalid_network', `This API key settles on ${network.id} only`);
  }
  const rail = openRail(deps, request);
  if (typeof rail === 'string') return refuse(rail);
  const known = await findClaim(deps.db, rail.facts);
  if (known) return settleKnown(deps, settlingFor, request, { rail, claim: known });

  const balance = await check(rail, deps.clock.now());
  if (typeof balance === 'string') {
    // Its nonce may have been used on the chain meanwhile: by another process of ours, for this very request.
    const claim = await findClaim(deps.db, rail.facts);
    return claim ? settleKnown(deps, settlingFor, request, { rail, claim }) : refuse(balance);
  }
  const { environmentId, apiKeyId } = settlingFor;
  const claimed = await deps.payments.claim(
    {
      facts: rail.facts,
      presenter: {
        agentId: apiKeyId,
        agentVerified: false,
        clientAddress: context.clientAddress ?? '',
        termsSecret: null,
      },
      fingerprint: request.fingerprint,
      target: { environmentId, serverId: null, endpointId: null },
      // The work is somebody else's: the money is due at once.
      mode: 'upfront',
      hosted: false,
      balance,
      perDay: deps.settlementsPerDay,
    },
    context,
  );
  if (claimed.kind === 'known')
    return settleKnown(deps, settlingFor, request, { rail, claim: claimed.claim });
  if (claimed.kind === 'refused') {
    if (claimed.reason === 'quota_exceeded') throw quotaExceeded(deps);
    return refuse(claimed.reason);
  }
  await reach('claimed');
  return tell(deps, claimed.payment, await rail.settle(claimed.payment));
}

/** A payment that was presented before: for the same caller and terms it gets on; to anyone else it is used. */
async function settleKnown(
  deps: FacilitatorDeps,
  settlingFor: SettlingFor,
  request: FacilitatorRequest,
  { rail, claim }: { rail: Rail; claim: Claim },
): Promise<FacilitatorSettlement> {
  const { payment } = claim;
  const isTheirs = payment.environmentId === settlingFor.environmentId && isFacilitated(payment);
  if (!isTheirs || !isForSameRequest(claim, rail.facts, request.fingerprint))
    return refuse('invalid_transaction_state', 'This payment was used before, for something else');
  if (payment.state === 'settled')
    return { kind: 'settled', transaction: payment.transaction ?? '', payment };
  const expired = payment.validBefore <= BigInt(unixSeconds(deps.clock.now()));
  if (payment.state === 'settlement_failed' && expired)
    return { kind: 'failed', reason: payment.failure ?? 'invalid_transaction_state', payment };
  return tell(deps, payment, await rail.settle(payment));
}

async function tell(
  { db }: FacilitatorDeps,
  payment: Payment,
  settlement: Settlement,
): Promise<FacilitatorSettlement> {
  if (settlement.kind !== 'pending') return { ...settlement, payment };
  return { kind: 'pending', transaction: (await findPendingTransaction(db, payment)) ?? '', payment };
}

/** The rail of a request whose terms we can settle; says what we can't do otherwise. */
function openRail(
  { chains }: Pick<FacilitatorDeps, 'chains'>,
  request: FacilitatorRequest,
): FacilitatorFault | Rail<ExactFault> {
  if (request.schemes.some((scheme) => scheme !== 'exact')) return 'unsupported_scheme';
  const found = chains.get(request.network);
  if (!found) return 'invalid_network';
  const { network } = found.chain;
  const { asset, amount, payTo, maxTimeoutSeconds, extra } = request;
  if (asset !== network.asset.address || amount === 0n || !isOurToken(extra, network))
    return 'invalid_payment_requirements';
  const terms: Terms = { network, amount, payTo, maxTimeoutSeconds };
  return exactRail({ ...found, terms, sent: request.sent, workSeconds: limits.facilitatorMarginSeconds });
}

/** Whether the terms asked for a signature that our token takes: its EIP-712 domain, and EIP-3009. */
function isOurToken(extra: FacilitatorRequest['extra'], { asset }: Network): boolean {
  const { name = asset.name, version = asset.version, assetTransferMethod = 'eip3009' } = extra;
  return name === asset.name && version === asset.version && assetTransferMethod === 'eip3009';
}

async function check(rail: Rail<ExactFault>, now: Date): Promise<KnownBalance | ExactFault | undefined> {
  return rail.findFault(now) ?? (await rail.findFunds(now));
}

function isRetryable({ payment }: Claim): boolean {
  return isFacilitated(payment) && payment.state === 'settlement_failed';
}

/** What rules (b) and (e) would say to a claim, without making one. */
async function findClaimFault(
  deps: Pick<FacilitatorDeps, 'db'>,
  rail: Rail,
  balance: KnownBalance,
  now: Date,
): Promise<FacilitatorFault | undefined> {
  const { db } = deps;
  const { facts } = rail;
  const [suspendedUntil, [claimed = 0n]] = await Promise.all([
    findSuspension(db, facts),
    sumClaimed(db, [
      { payment: { ...facts, id: '' }, balanceReadAt: balance.readAt, balanceBlock: balance.block },
    ]),
  ]);
  // Asked before the work is done, which somebody whose last payment failed after it isn't worth yet.
  if (suspendedUntil && suspendedUntil > now) return 'payer_suspended';
  if (claimed + facts.amount <= balance.atomic) return undefined;
  const renewed = await balance.renew?.();
  return renewed ? findClaimFault(deps, rail, renewed, now) : 'insufficient_funds';
}

const delivered =
  'A delivery on this payment was begun: settling it again succeeds for that call only, by its Idempotency-Key';

function refuse(reason: FacilitatorFault, message?: string): FacilitatorSettlement {
  return message === undefined ? { kind: 'refused', reason } : { kind: 'refused', reason, message };
}

function quotaExceeded({ settlementsPerDay, clock }: FacilitatorDeps): AppError {
  const day = clock.now().toISOString().slice(0, 10);
  return new AppError(
    'quota_exceeded',
    `This environment may have ${settlementsPerDay} payments settled a day, and has had them on ${day} (UTC): try again tomorrow, or ask the operator`,
  );
}
