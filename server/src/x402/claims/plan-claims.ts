import type { Owed } from './payer-sums.sql.ts';
import type { Payment, PaymentKey, SettlementMode } from '../payments/payment.ts';

/** Why a payment that is good in itself isn't claimed. */
export type ClaimRefusal = 'insufficient_funds' | 'payer_suspended' | 'quota_exceeded';

/** A payer's balance, and when the chain was asked for it. */
export interface KnownBalance {
  atomic: bigint;
  readAt: Date;
  /** The block that said it: what was settled in later ones isn't in it. Where that isn't known, what was settled since it was read isn't. */
  block?: bigint | undefined;
  /**
   * Where it was read before it was asked for: reads it now, and gives nothing where there is too little. What was settled since it was
   * read is subtracted from it, perhaps twice, and what the payer got since isn't in it: so it may allow a claim, and refuses none.
   */
  renew?(): Promise<KnownBalance | undefined>;
}

/** One payment that asks for an attempt, and what is known of its payer's money. */
export interface Ask {
  payment: Payment;
  /** Nothing where the rail itself reserves the money, as credits do. */
  balance: KnownBalance | undefined;
  /** What the payer's other payments take, as the database has it. */
  claimed: bigint;
  /** Until when nothing but `upfront` is taken from the payer. */
  suspendedUntil: Date | null;
  /** Whether the payee is a wallet here, so that a payment can be refunded. */
  hosted: boolean;
  /** Whose quota it takes one from, and how many that had left before these; nothing where it isn't counted. */
  quota?: { environmentId: string; left: number } | undefined;
}

/** How much may be owed by payments that were answered before they are settled, in atomic units: on each network, to one server, by one payer. */
export interface OwedLimits {
  inAll: bigint;
  byServer: bigint;
  byPayer: bigint;
}

/** The mode that a payment is claimed in, or why it isn't. */
export type PlannedClaim = { mode: SettlementMode } | { refusal: ClaimRefusal };

/** Names a payer, as `Owed.byPayer` does. */
export function payerName({ network, asset, payer }: Omit<PaymentKey, 'nonce'>): string {
  return `${network} ${asset} ${payer}`;
}

/**
 * Decides on payments in the order of their arrival (DESIGN section 5, rules b and e). A payer's claims together never exceed its
 * balance. One whose settlement has failed pays upfront for a while, or not at all where that could not be refunded. An
 * optimistic payment that would exceed a limit on what is owed is settled before its answer is released. What a quota has no room for
 * takes nobody's money, and what there is no money for takes nothing of a quota.
 */
export function planClaims(
  asks: readonly Ask[],
  owed: Owed | undefined,
  limits: OwedLimits,
  now: Date,
): PlannedClaim[] {
  const accepted = new Map<string, bigint>();
  const counted = new Map<string, number>();
  const added = {
    byNetwork: new Map<string, bigint>(),
    byServer: new Map<string, bigint>(),
    byPayer: new Map<string, bigint>(),
  };

  function fitsOwed({ network, serverId, amount }: Payment, name: string): boolean {
    if (!owed || serverId === null) return false;
    const inAll = (owed.byNetwork.get(network) ?? 0n) + (added.byNetwork.get(network) ?? 0n) + amount;
    const ofServer = (owed.byServer.get(serverId) ?? 0n) + (added.byServer.get(serverId) ?? 0n) + amount;
    const ofPayer = (owed.byPayer.get(name) ?? 0n) + (added.byPayer.get(name) ?? 0n) + amount;
    if (inAll > limits.inAll || ofServer > limits.byServer || ofPayer > limits.byPayer) return false;
    add(added.byNetwork, network, amount);
    add(added.byServer, serverId, amount);
    add(added.byPayer, name, amount);
    return true;
  }

  function fitsQuota(quota: Ask['quota']): boolean {
    if (!quota) return true;
    const before = counted.get(quota.environmentId) ?? 0;
    if (before >= quota.left) return false;
    counted.set(quota.environmentId, before + 1);
    return true;
  }

  return asks.map(({ payment, balance, claimed, suspendedUntil, hosted, quota }) => {
    const name = payerName(payment);
    let { mode } = payment;
    // What is settled first anyway risks nobody's work.
    if (mode !== 'upfront' && suspendedUntil && suspendedUntil > now) {
      if (!hosted) return { refusal: 'payer_suspended' };
      mode = 'upfront';
    }
    if (balance && claimed + (accepted.get(name) ?? 0n) + payment.amount > balance.atomic)
      return { refusal: 'insufficient_funds' };
    if (!fitsQuota(quota)) return { refusal: 'quota_exceeded' };
    if (mode === 'optimistic' && !fitsOwed(payment, name)) mode = 'after_success';
    add(accepted, name, payment.amount);
    return { mode };
  });
}

function add(sums: Map<string, bigint>, name: string, amount: bigint): void {
  sums.set(name, (sums.get(name) ?? 0n) + amount);
}
