import type { KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { createLane } from '../../db/index.ts';
import { limits } from '../../kernel/limits.ts';
import type { Algorithm } from '../signing-keys/signing-key.ts';

/** What a key of an elliptic curve has to sign. */
export interface SigningJob {
  signingInput: string;
  key: { algorithm: Exclude<Algorithm, 'RS256'>; privateKey: KeyObject };
}

/**
 * A thread that signs for the event loop. Handing over costs about as much as a signature of an elliptic curve, so that what is asked for
 * while the thread is busy goes there together; the thread pool takes one at a time. Begins with its first job, and keeps no process alive.
 */
export function createSigningThread(): { sign(job: SigningJob): Promise<string> } {
  let worker: Worker | undefined;

  function open(): Worker {
    const opened = new Worker(new URL('signing-thread.worker.ts', import.meta.url));
    // The jobs that it had fail by themselves; those to come get another one.
    opened.on('error', () => (worker = undefined));
    return opened;
  }

  async function signAll(jobs: readonly SigningJob[]): Promise<string[]> {
    const thread = (worker ??= open());
    thread.ref();
    const answer = once(thread, 'message');
    thread.postMessage(jobs);
    const [signatures] = (await answer) as [string[]];
    thread.unref();
    return signatures;
  }

  const lane = createLane({ batchMax: limits.tokenBatch, run: signAll });
  return { sign: (job) => lane.submit(job) };
}
