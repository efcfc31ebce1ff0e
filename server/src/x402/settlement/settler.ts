import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { type SealedResponse, sealResponse } from '../claims/stored-response.ts';
import type { Payment, StoredResponse } from '../payments/payment.ts';
import { createGathering } from './gathering.ts';
import { createReorganisationWatch } from './reorganisations.ts';
import { type BatchDeps, mayGoUntried } from './settle-batch.ts';
import { createElsewhere } from './settled-elsewhere.ts';
import {
  type AnswerSettlement,
  type Settlement,
  settlementOf,
  type Waiting,
  wasJustVerified,
} from './settlement.ts';
import type { Conclusion } from './conclusions.sql.ts';
import { takeUp } from './take-up.ts';

/** Settles what this process has delivered on one chain, and takes up what others have left. */
export interface Settler {
  /**
   * Settles an answered payment, together with whatever else waits at this moment. Never rejects: what isn't known is pending.
   * @param verifiedAtMs when the chain said that it is good, by `performance.now()`: what was so a moment ago isn't asked again.
   */
  settle(payment: Payment, verifiedAtMs?: number): Promise<Settlement>;
  /**
   * Settles a payment with an answer that isn't stored yet: both are written down at once. Nothing where the answer is to be stored first, as
   * it would wait in memory for more than some milliseconds, or is too large. Rejects where neither could be.
   */
  storeAndSettle(
    payment: Payment,
    response: StoredResponse,
    verifiedAtMs: number | undefined,
  ): Promise<AnswerSettlement> | undefined;
  /**
   * Says that a payment is about to come, so that a batch may wait a moment for it. Gives what says that it has come, or won't; after a
   * quarter of a second it is counted on no more.
   */
  expect(): () => void;
  /** Takes up what was left: attempts, answers and transactions of processes that are gone. Gives how many it took up. */
  resume(): Promise<number>;
}

/** What another attempt has is told by that. */
function orPending(settlement: AnswerSettlement): Settlement {
  return settlement.kind === 'taken_over' ? { kind: 'pending' } : settlement;
}

/**
 * Opens the settling of one chain. Who asks for a payment is told as soon as this process has concluded it; where another process has
 * it, its row has the word. Any number of processes may each have one.
 */
export function createSettler(given: BatchDeps): Settler {
  const deps: BatchDeps = { ...given, resting: new Map() };
  /** All that this process waits for. A payment that is asked for twice is settled once. */
  const open = new Map<string, Waiting>();
  const elsewhere = createElsewhere(deps);
  const watchReorganisations = createReorganisationWatch(deps);
  const isOpen = (one: Waiting) => open.get(one.payment.id) === one;
  const gathering = createGathering(deps, {
    tell,
    isOpen,
    ended(batch) {
      for (const one of batch) if (isOpen(one)) elsewhere.add(one);
    },
  });

  function tell(told: readonly Conclusion[]): void {
    for (const conclusion of told) {
      const settlement = settlementOf(conclusion);
      if (settlement) open.get(conclusion.payment.id)?.resolve(settlement);
    }
  }

  function settle(payment: Payment, verifiedAtMs?: number): Promise<Settlement> {
    const known = open.get(payment.id);
    if (!known) return start(payment, verifiedAtMs).settlement.then(orPending);
    // Asked for while another request's answer to it isn't stored: that may fail.
    return known.settlement.then(orPending, () => ({ kind: 'pending' }));
  }

  function start(payment: Payment, verifiedAtMs?: number, unstored?: SealedResponse): Waiting {
    const { promise, resolve, reject } = Promise.withResolvers<AnswerSettlement>();
    // Whatever its payment waits for: whoever asks goes no longer without a word than a stream's lease leaves room for.
    const timer = setTimeout(() => {
      // An answer that only this process has stays, to be stored with the next batch.
      if (!one.unstored) gathering.leave(one);
      one.resolve({ kind: 'pending' });
    }, limits.settlementMarginSeconds * 1000);
    const one: Waiting = {
      payment,
      deadline: addSeconds(deps.context.clock.now(), limits.settlementMarginSeconds),
      sinceMs: performance.now(),
      verifiedAtMs,
      unstored,
      settlement: promise,
      resolve(settlement) {
        close();
        resolve(settlement);
      },
      reject(error) {
        close();
        reject(error);
      },
    };
    const close = () => {
      clearTimeout(timer);
      // Asked for again meanwhile, it is another's.
      if (isOpen(one)) open.delete(payment.id);
    };
    open.set(payment.id, one);
    // An item of a transaction already: whoever watches that has the word.
    if (payment.state === 'settling') elsewhere.add(one);
    else gathering.join(one);
    return one;
  }

  return {
    settle,
    storeAndSettle(payment, response, verifiedAtMs) {
      if (response.body.length > limits.unstoredResponseBytes || open.has(payment.id)) return;
      if (!wasJustVerified({ verifiedAtMs }) || !mayGoUntried(deps) || !gathering.isQuick()) return;
      return start(payment, verifiedAtMs, sealResponse(deps.context.box, payment, response)).settlement;
    },
    expect: gathering.expect,
    async resume() {
      await watchReorganisations().catch(deps.report);
      return takeUp(deps, (payment) => settle(payment), tell);
    },
  };
}
