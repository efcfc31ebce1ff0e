import { sha256 } from './crypto.ts';
import { limits } from './limits.ts';

/** Which credentials were good when they were last shown here, by their hashes alone. It lets nobody in: what is known is only looked up first. */
export interface DigestMemory {
  has(credential: string): boolean;
  add(credential: string): void;
  forget(credential: string): void;
}

/** Of too many, the one that was shown longest ago goes first. */
export function createDigestMemory(): DigestMemory {
  const digests = new Set<string>();
  return {
    has: (credential) => digests.has(digestOf(credential)),
    add(credential) {
      const digest = digestOf(credential);
      digests.delete(digest);
      digests.add(digest);
      const [oldest] = digests.size > limits.guessMemoryEntries ? digests : [];
      if (oldest !== undefined) digests.delete(oldest);
    },
    forget: (credential) => void digests.delete(digestOf(credential)),
  };
}

function digestOf(credential: string): string {
  return sha256(credential).toString('base64url');
}
