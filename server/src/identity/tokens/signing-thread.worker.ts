import { parentPort } from 'node:worker_threads';
import { signByCurve } from './jws.ts';
import type { SigningJob } from './signing-thread.ts';

parentPort?.on('message', (jobs: readonly SigningJob[]) => {
  parentPort?.postMessage(jobs.map(({ signingInput, key }) => signByCurve(signingInput, key)));
});
