import type { Case } from '../bench.ts';
import { exactNotes, startExactContenders } from './exact-contenders.ts';

const blockSeconds = 2;

export const paid2sBlocks: Case = {
  name: 'paid-2s-blocks',
  title: 'A paid call, a block every 2 s',
  notes: [
    ...exactNotes,
    'A client that waits for its block makes at most one call in 2 s, so 100 clients can reach 50/s. The window is a whole number of blocks.',
  ],
  connections: 100,
  threads: 2,
  // Two blocks: by then every client waits for one.
  rampSeconds: 4,
  windowSeconds: 10,
  drainSeconds: 10,
  warmUpSeconds: 6,
  start: (stage) => startExactContenders(stage, { blockSeconds }),
};
