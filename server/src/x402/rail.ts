import { unixSeconds } from '../kernel/clock.ts';
import { AppError } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';
import type { Chain } from './chain/chain.ts';
import {
  type ExactPayment,
  findTermsFault,
  isSignedByPayer,
  type ExactFault,
  type PaymentFault,
  type Terms,
} from './exact/exact.ts';
import { exactFacts, type Payment, type PaymentFacts, type StoredResponse } from './payments/payment.ts';
import type { KnownBalance } from './claims/plan-claims.ts';
import { ChainUnavailableError } from './chain/json-rpc.ts';
import type { AnswerSettlement, Settlement } from './settlement/settlement.ts';
import type { Settler } from './settlement/settler.ts';

/** One attempt with its settlement: a payment must be good for this long when it starts. */
export const attemptSeconds = limits.upstreamTimeoutSeconds + limits.settlementMarginSeconds;

/** What one sent payment goes by: how it is checked, and how its money moves. */
export interface Rail<Fault extends string = PaymentFault> {
  facts: PaymentFacts;
  /** What the payment says against itself, or against the terms; its signature included. */
  findFault(now: Date): Fault | undefined;
  /**
   * The payer's balance, as it was after this moment at the earliest; or what speaks against the payment now. Nothing where claiming it
   * reserves the money. Throws `unavailable` where nobody can tell: the payment is still good then.
   */
  findFunds(now: Date): Promise<KnownBalance | Fault | undefined>;
  /** Never rejects: what isn't known is pending. */
  settle(payment: Payment): Promise<Settlement>;
  /**
   * Settles a payment and stores its answer at once, in one transaction of the database. Nothing where the answer is to be stored first.
   * Rejects where neither could be written down.
   */
  storeAndSettle(payment: Payment, response: StoredResponse): Promise<AnswerSettlement> | undefined;
  /** Says that this payment is looked at and may soon be settled. Gives what says that it won't. */
  expect(): () => void;
}

/**
 * Scheme `exact` on an EVM chain: a signed EIP-3009 transfer, settled by a transaction of ours. `workSeconds` is for how long the
 * payment must still be good; one attempt and its settlement unless said otherwise.
 */
export function exactRail(args: {
  sent: ExactPayment;
  terms: Terms;
  chain: Chain;
  settler: Settler;
  workSeconds?: number;
}): Rail<ExactFault> {
  const { sent, terms, chain, settler, workSeconds = attemptSeconds } = args;
  let arrive: (() => void) | undefined;
  let verifiedAtMs: number | undefined;
  return {
    facts: exactFacts(sent),
    findFault(now) {
      const fault = findTermsFault(sent, terms, BigInt(unixSeconds(now)), workSeconds);
      if (fault) return fault;
      return isSignedByPayer(terms.network, sent) ? undefined : 'invalid_exact_evm_payload_signature';
    },
    async findFunds(now) {
      const begunMs = performance.now();
      const funds = await readFunds(chain, sent, { now, begunMs });
      // Somebody may have sent the payer money since.
      const latest =
        funds === 'insufficient_funds'
          ? await readFunds(chain, sent, { now, begunMs, sinceMs: begunMs })
          : funds;
      if (typeof latest !== 'string') verifiedAtMs = begunMs + (latest.readAt.getTime() - now.getTime());
      return latest;
    },
    settle(payment) {
      arrive?.();
      // What gives it back is another payment, which nobody has looked at.
      return settler.settle(payment, payment.refundOf === null ? verifiedAtMs : undefined);
    },
    storeAndSettle(payment, response) {
      const settlement = settler.storeAndSettle(payment, response, verifiedAtMs);
      if (settlement) arrive?.();
      return settlement;
    },
    expect: () => (arrive = settler.expect()),
  };
}

/**
 * What the payer has, as the chain's latest block says or said, though not before `sinceMs`; or what speaks against the payment. A balance
 * that was read before `begunMs`, when it was `now`, may allow the payment, and is renewed before it refuses it.
 */
async function readFunds(
  chain: Chain,
  sent: ExactPayment,
  asked: { now: Date; begunMs: number; sinceMs?: number },
): Promise<KnownBalance | ExactFault> {
  const { from, nonce, value } = sent.authorization;
  const { now, begunMs, sinceMs } = asked;
  const state = await askChain(chain.payerState(from, nonce, sinceMs));
  // The token would ask the account's code instead of its signature: contract wallets are refused for now.
  if (state.hasCode) return 'invalid_exact_evm_payload_signature';
  if (state.nonceUsed) return 'invalid_transaction_state';
  if (state.balance < value) return 'insufficient_funds';
  const readAt = new Date(now.getTime() + Math.floor(state.askedAtMs - begunMs));
  const known = { atomic: state.balance, readAt, block: state.block };
  if (state.askedAtMs >= begunMs) return known;
  return {
    ...known,
    async renew() {
      const renewed = await readFunds(chain, sent, { now, begunMs, sinceMs: performance.now() });
      return typeof renewed === 'string' ? undefined : renewed;
    },
  };
}

/** A chain that can't be asked is our trouble and not the payment's: 503, and the payment is still good. */
async function askChain<T>(question: Promise<T>): Promise<T> {
  try {
    return await question;
  } catch (error) {
    if (!(error instanceof ChainUnavailableError)) throw error;
    throw new AppError(
      'unavailable',
      'The payment cannot be checked at the moment; try again with the same payment',
      { cause: error },
    );
  }
}
