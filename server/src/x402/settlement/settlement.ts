import type { SealedResponse } from '../claims/stored-response.ts';
import type { Payment } from '../payments/payment.ts';
import type { Conclusion } from './conclusions.sql.ts';

/** What became of a settlement, as far as it is known now. `pending` is never the last word. */
export type Settlement =
  | { kind: 'failed'; reason: string }
  | { kind: 'pending' }
  | { kind: 'settled'; transaction: string };

/** Besides: its answer wasn't stored yet, and another attempt has its payment now. */
export type AnswerSettlement = Settlement | { kind: 'taken_over' };

/** A payment that somebody in this process waits for. */
export interface Waiting {
  payment: Payment;
  /** Until when whoever asked waits for the chain's word. */
  deadline: Date;
  /** By `performance.now()`. */
  sinceMs: number;
  /** When, by the same, the chain said that it is good; nothing where nobody has asked it. */
  verifiedAtMs: number | undefined;
  /** Its answer, until that is stored: with the transaction that settles it, or before. */
  unstored: SealedResponse | undefined;
  settlement: Promise<AnswerSettlement>;
  resolve(settlement: AnswerSettlement): void;
  /** Its answer could not be stored. */
  reject(error: unknown): void;
}

/** What the chain said of a payment no longer ago than this isn't asked again before it is sent. */
const justMs = 1_000;

export function wasJustVerified({ verifiedAtMs }: Pick<Waiting, 'verifiedAtMs'>): boolean {
  return verifiedAtMs !== undefined && performance.now() - verifiedAtMs <= justMs;
}

/** What a conclusion says to whoever waits; nothing where it is none yet. */
export function settlementOf(conclusion: Conclusion): Settlement | undefined {
  if (conclusion.state === 'settled') return { kind: 'settled', transaction: conclusion.transaction };
  if (conclusion.state === 'settlement_failed') return { kind: 'failed', reason: conclusion.failure };
  return undefined;
}

/** What a payment's row says to whoever waits; nothing where it has no end yet. */
export function settlementOfRow(
  row: Pick<Payment, 'failure' | 'state' | 'transaction'>,
): Settlement | undefined {
  if (row.state === 'settled') return { kind: 'settled', transaction: row.transaction ?? '' };
  if (row.state === 'settlement_failed')
    return { kind: 'failed', reason: row.failure ?? 'settlement failed' };
  return undefined;
}
