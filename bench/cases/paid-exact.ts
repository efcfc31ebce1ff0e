import type { Case } from '../bench.ts';
import { exactNotes, startExactContenders } from './exact-contenders.ts';

export const paidExact: Case = {
  name: 'paid-exact',
  title: 'A paid call, a block for each transaction',
  notes: exactNotes,
  connections: 32,
  threads: 2,
  rampSeconds: 2,
  windowSeconds: 10,
  drainSeconds: 4,
  warmUpSeconds: 5,
  start: (stage) => startExactContenders(stage),
};
