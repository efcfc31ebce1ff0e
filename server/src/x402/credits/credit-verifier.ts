import type { KeyObject } from 'node:crypto';
import { createLane } from '../../db/index.ts';
import { limits } from '../../kernel/limits.ts';
import { createThread } from '../../kernel/thread.ts';
import { type CreditAlgorithm, type CreditKey, type CreditPayment, creditType } from './credit-payment.ts';

/** A compact JWS, and whose it should be. */
export interface VerifyingJob {
  jws: string;
  algorithm: CreditAlgorithm;
  publicKey: KeyObject;
}

/**
 * Whether the header is what ours must be, and the key made the signature. An extension marked critical is refused (RFC 7515
 * section 4.1.11): we know none.
 */
export type CreditVerifier = (payment: CreditPayment, key: CreditKey) => Promise<boolean>;

/** Verifies on a thread of its own: a signature takes 65 microseconds (ES256) to 95 (EdDSA). */
export function createCreditVerifier(): CreditVerifier {
  const run = createThread<boolean>(new URL('credit-verifier.worker.ts', import.meta.url));
  const lane = createLane<VerifyingJob, boolean>({ batchMax: limits.paymentBatch, run });
  return async ({ header, jws }, { algorithm, publicKey }) => {
    if (header.typ !== creditType || header.alg !== algorithm || header.critical) return false;
    return lane.submit({ jws, algorithm, publicKey });
  };
}
