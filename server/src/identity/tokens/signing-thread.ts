import type { KeyObject } from 'node:crypto';
import { createLane } from '../../db/index.ts';
import { limits } from '../../kernel/limits.ts';
import { createThread } from '../../kernel/thread.ts';
import type { Algorithm } from '../signing-keys/signing-key.ts';

/** What a key of an elliptic curve has to sign. */
export interface SigningJob {
  signingInput: string;
  key: { algorithm: Exclude<Algorithm, 'RS256'>; privateKey: KeyObject };
}

/** A thread that signs: a signature of an elliptic curve takes the event loop as long as the rest of a token. */
export function createSigningThread(): { sign(job: SigningJob): Promise<string> } {
  const run = createThread<string>(new URL('signing-thread.worker.ts', import.meta.url));
  const lane = createLane<SigningJob, string>({ batchMax: limits.tokenBatch, run });
  return { sign: (job) => lane.submit(job) };
}
