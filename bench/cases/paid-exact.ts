import type { Case } from '../bench.ts';
import { exactNotes, startExactContenders } from './exact-contenders.ts';

export const paidExact: Case = {
  name: 'paid-exact',
  title: 'A paid call, a block for each transaction',
  notes: [
    ...exactNotes,
    'Each repetition begins with an empty database and an empty chain: anvil takes longer for a block the more there is on its chain, and who settles more would be slowed by it.',
  ],
  connections: 32,
  threads: 2,
  rampSeconds: 2,
  windowSeconds: 10,
  drainSeconds: 4,
  warmUpSeconds: 5,
  startsAfresh: true,
  start: (stage) => startExactContenders(stage),
};
