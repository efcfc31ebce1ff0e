import type { Case } from '../bench.ts';
import { free } from './free.ts';
import { paidCredits } from './paid-credits.ts';
import { paid2sBlocks } from './paid-2s-blocks.ts';
import { paidExact } from './paid-exact.ts';

/** In the order of the results. */
export const cases: readonly Case[] = [free, paidExact, paid2sBlocks, paidCredits];
