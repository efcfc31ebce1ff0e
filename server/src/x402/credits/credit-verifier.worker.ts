import { verify } from 'node:crypto';
import { parentPort } from 'node:worker_threads';
import type { VerifyingJob } from './credit-verifier.ts';

/** Of both algorithms. */
const signatureBytes = 64;

parentPort?.on('message', (jobs: readonly VerifyingJob[]) => {
  parentPort?.postMessage(jobs.map(isSigned));
});

function isSigned({ jws, algorithm, publicKey }: VerifyingJob): boolean {
  const end = jws.lastIndexOf('.');
  const input = Buffer.from(jws.slice(0, end), 'latin1');
  const signature = Buffer.from(jws.slice(end + 1), 'base64url');
  if (signature.length !== signatureBytes) return false;
  if (algorithm === 'EdDSA') return verify(null, input, publicKey, signature);
  // RFC 7518 section 3.4: two numbers of 32 bytes, not DER.
  return verify('sha256', input, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature);
}
