import { drawRandom, sha256 } from '../../kernel/crypto.ts';

/** A refresh token's two halves: where it is found, and what shows that it is one. */
export interface RefreshToken {
  familyId: string;
  /** What is kept of it. */
  hash: Buffer;
}

/** `rt_<22 characters of the family><43 characters of secret>`, both base64url: 128 and 256 bits. */
export function newRefreshToken(familyId: string): { text: string; hash: Buffer } {
  const family = Buffer.from(familyId.replaceAll('-', ''), 'hex').toString('base64url');
  const text = `rt_${family}${drawRandom(32).toString('base64url')}`;
  return { text, hash: sha256(text) };
}

/** Nothing where the text can't be a refresh token of ours. */
export function readRefreshToken(text: string): RefreshToken | undefined {
  if (!/^rt_[\w-]{65}$/.test(text)) return undefined;
  const hex = Buffer.from(text.slice(3, 25), 'base64url').toString('hex');
  const familyId = [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join('-');
  return { familyId, hash: sha256(text) };
}

/** Whether the text begins and is long as a refresh token of ours, mistyped ones as well: no third party may see it. */
export function isRefreshTokenShaped(text: string): boolean {
  return /^rt_[\w-]{30,}$/.test(text);
}

/** The `jti` of an access token of a family, so that ending the family ends its tokens as well. */
export function tokenIdOf(familyId: string, generation: number): string {
  return `${familyId}.${generation}`;
}

/** The family that a token id names, if it is of one. */
export function familyOfTokenId(jti: string): string | undefined {
  return /^([0-9a-f-]{36})\.\d+$/.exec(jti)?.[1];
}
