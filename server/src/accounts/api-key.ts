import { crc32 } from 'node:zlib';
import { randomSecret, sha256 } from '../kernel/crypto.ts';

/** The two halves of an organisation; neither sees the other. */
export type EnvironmentKind = 'production' | 'sandbox';

/**
 * An API key's text: `<prefix>_test_<43 characters><8 hexadecimal digits of CRC-32>` (`_live_` for production).
 * The checksum lets a scanner, and this server, tell a key from noise without a look-up.
 */
export function newApiKey(kind: EnvironmentKind): string {
  const body = `awx_${kind === 'production' ? 'live' : 'test'}_${randomSecret()}`;
  return body + checksum(body);
}

/** Whether the text can be a key of ours at all; says nothing about whether it is one. */
export function looksLikeApiKey(text: string): boolean {
  return /^awx_(?:live|test)_[\w-]{51}$/.test(text) && checksum(text.slice(0, -8)) === text.slice(-8);
}

/** What is stored and looked up. The key has 256 random bits, so a fast hash is enough. */
export function hashApiKey(key: string): Buffer {
  return sha256(key);
}

/** Enough of the key for its owner to recognise it: `awx_test_AbCd`. */
export function displayPrefix(key: string): string {
  return key.slice(0, 'awx_test_'.length + 4);
}

function checksum(text: string): string {
  return crc32(text).toString(16).padStart(8, '0');
}
