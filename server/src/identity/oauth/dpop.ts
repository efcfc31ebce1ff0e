import type { Clock } from '../../kernel/clock.ts';
import type { SecretBox } from '../../kernel/crypto.ts';
import { limits } from '../../kernel/limits.ts';
import { checkDpopProof } from './dpop-proof.ts';
import type { ProofRegister } from './proof-register.ts';

/** What became of a proof. */
export type DpopOutcome =
  | { kind: 'good'; thumbprint: string }
  | { kind: 'refused'; reason: string }
  /** RFC 9449 section 8: the client shall send it again with our nonce. */
  | { kind: 'nonce_needed' };

/** Proofs of possession (RFC 9449), each good for one request. */
export interface Dpop {
  /** Whether proofs must carry a nonce of ours. */
  readonly nonces: boolean;
  /** A nonce for the next proofs. Any process of the instance knows it again; none remembers it. */
  newNonce(): string;
  /** Checks a proof and uses it up. */
  use(proof: string, request: { method: string; url: string; accessToken?: string }): Promise<DpopOutcome>;
}

const nonceBinding = 'dpop/nonce';

export function createDpop(context: {
  clock: Clock;
  box: SecretBox;
  proofs: ProofRegister;
  nonces: boolean;
}): Dpop {
  const { clock, box, proofs } = context;

  function isFreshNonce(nonce: string | undefined, now: Date): boolean {
    if (nonce === undefined) return false;
    try {
      const madeAt = box.open(Buffer.from(nonce, 'base64url'), nonceBinding).readDoubleBE();
      return Math.abs(now.getTime() - madeAt) <= limits.dpopNonceSeconds * 1000;
    } catch {
      return false;
    }
  }

  return {
    nonces: context.nonces,
    newNonce() {
      const time = Buffer.alloc(8);
      time.writeDoubleBE(clock.now().getTime());
      return box.seal(time, nonceBinding).toString('base64url');
    },
    async use(text, request) {
      const now = clock.now();
      const proof = checkDpopProof(text, { ...request, now });
      if (typeof proof === 'string') return { kind: 'refused', reason: proof };
      if (context.nonces && !isFreshNonce(proof.nonce, now)) return { kind: 'nonce_needed' };
      const isFirst = await proofs.use('dpop', proof.thumbprint, proof.jti, proof.expiresAt);
      return isFirst
        ? { kind: 'good', thumbprint: proof.thumbprint }
        : { kind: 'refused', reason: 'its jti was used before' };
    },
  };
}
