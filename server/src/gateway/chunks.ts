const mergedAt = 64;

/** The parts of a body as they come. */
export interface Chunks {
  push(chunk: Buffer): void;
  bytes(): number;
  /** All of them, in order; nothing may be pushed after. */
  take(): Buffer[];
}

/**
 * Collects a body. Small parts are merged now and then: each costs some hundred bytes of its own and keeps the whole
 * read alive that it came with, so that an upstream could make a few MiB of single bytes into a GiB.
 */
export function createChunks(): Chunks {
  const chunks: Buffer[] = [];
  let merged = 0;
  let bytes = 0;
  return {
    push(chunk) {
      bytes += chunk.length;
      chunks.push(chunk);
      if (chunks.length - merged < mergedAt) return;
      chunks.push(Buffer.concat(chunks.splice(merged)));
      merged += 1;
    },
    bytes: () => bytes,
    take: () => chunks,
  };
}
