import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

/**
 * A client secret's text: `cs_<43 characters><6 characters of CRC-32>`, all base62, so that a double click takes the whole.
 * The checksum lets a scanner, and this server, tell a secret from noise without a look-up. It guards nothing.
 */
export function newClientSecret(): string {
  // 256 bits: the largest of them has 43 digits of base 62.
  const body = `cs_${base62(BigInt(`0x${randomBytes(32).toString('hex')}`), 43)}`;
  return body + checksum(body);
}

/** Whether the text can be a secret of ours at all. Those of 0.1 had 43 characters of base64url, and no checksum. */
export function looksLikeClientSecret(text: string): boolean {
  if (/^cs_[\w-]{43}$/.test(text)) return true;
  return /^cs_[0-9A-Za-z]{49}$/.test(text) && checksum(text.slice(0, -6)) === text.slice(-6);
}

/** Whether the text begins and is long as a secret of ours, mistyped ones as well: no third party may see it. */
export function isClientSecretShaped(text: string): boolean {
  return /^cs_[\w-]{30,}$/.test(text);
}

/** Enough of the secret for its owner to recognise it: `cs_AbCd`. */
export function displayPrefix(secret: string): string {
  return secret.slice(0, 'cs_'.length + 4);
}

const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

function checksum(text: string): string {
  let checked = '';
  // In plain numbers, as it is for every request to the token endpoint.
  for (let rest = crc32(text); rest > 0; rest = Math.floor(rest / 62)) checked = digits[rest % 62] + checked;
  return checked.padStart(6, '0');
}

function base62(value: bigint, length: number): string {
  let text = '';
  for (let rest = value; rest > 0n; rest /= 62n) text = digits[Number(rest % 62n)] + text;
  return text.padStart(length, '0');
}
