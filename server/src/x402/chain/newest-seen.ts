/** What is known to be there: an answer of an earlier block than this says nothing of what hasn't happened. */
export interface NewestSeen {
  see(block: bigint): void;
  /** Zero where nothing was seen for a while: a local chain may have forgotten its last blocks. */
  block(): bigint;
}

/** Longer than a node is behind the others of its provider, and shorter than anybody waits for a settlement. */
const seenMsMax = 15_000;

export function createNewestSeen(): NewestSeen {
  let newest = { block: 0n, atMs: Number.NEGATIVE_INFINITY };
  const isKnown = () => performance.now() - newest.atMs <= seenMsMax;
  return {
    see(block) {
      if (block >= newest.block || !isKnown()) newest = { block, atMs: performance.now() };
    },
    block: () => (isKnown() ? newest.block : 0n),
  };
}
