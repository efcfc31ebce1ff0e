import type { Case, Look } from '../bench.ts';
import { verifyTokens } from '../in-process/verify-tokens.ts';
import { firstByte } from './first-byte.ts';
import { free } from './free.ts';
import { paidCredits } from './paid-credits.ts';
import { tokensEs256, tokensRs256 } from './client-credentials.ts';
import { me } from './me.ts';
import { paid2sBlocks } from './paid-2s-blocks.ts';
import { paidExact } from './paid-exact.ts';
import { paidOptimistic } from './paid-optimistic.ts';

/** In the order of the results. */
export const cases: readonly (Case | Look)[] = [
  free,
  paidExact,
  paid2sBlocks,
  paidOptimistic,
  paidCredits,
  tokensEs256,
  tokensRs256,
  me,
  firstByte,
  verifyTokens,
];
