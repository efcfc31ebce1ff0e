import {
  createCipheriv,
  createDecipheriv,
  hash,
  randomBytes,
  randomFillSync,
  timingSafeEqual,
} from 'node:crypto';
import { assert } from './assert.ts';

export function sha256(data: string | Buffer): Buffer {
  return hash('sha256', data, 'buffer');
}

const pool = Buffer.alloc(4096);
let poolUsed = pool.length;

/** Random bytes for hot paths: drawn from the system for many callers at once, as each draw costs microseconds. None is given twice, or kept. */
export function drawRandom(bytes: number): Buffer {
  assert(bytes <= pool.length, 'the pool is larger than a draw');
  if (poolUsed + bytes > pool.length) {
    randomFillSync(pool);
    poolUsed = 0;
  }
  const drawn = Buffer.from(pool.subarray(poolUsed, poolUsed + bytes));
  pool.fill(0, poolUsed, poolUsed + bytes);
  poolUsed += bytes;
  return drawn;
}

/** 256 random bits for a secret that is shown once and kept as its hash. */
export function randomSecret(bytes = 32): string {
  return randomBytes(bytes).toString('base64url');
}

/** Compares two digests of equal length in constant time. */
export function equalDigests(left: Buffer, right: Buffer): boolean {
  return left.length === right.length && timingSafeEqual(left, right);
}

/** Encrypts what must be read again (wallet keys, signing keys, stored responses) under the master key. */
export interface SecretBox {
  /** `boundTo` names the row and column, so that a ciphertext moved to another row doesn't open. */
  seal(plain: Buffer, boundTo: string): Buffer;
  /** Throws where the key, the row or the bytes are not those that were sealed. */
  open(sealed: Buffer, boundTo: string): Buffer;
}

const boxVersion = 1;
const ivBytes = 12;
const tagBytes = 16;

/** AES-256-GCM with a random 96-bit IV (NIST SP 800-38D): `version | iv | tag | ciphertext`. */
export function createSecretBox(masterKey: Buffer): SecretBox {
  assert(masterKey.length === 32, 'the master key has 32 bytes');
  return {
    seal(plain, boundTo) {
      const iv = drawRandom(ivBytes);
      const cipher = createCipheriv('aes-256-gcm', masterKey, iv).setAAD(Buffer.from(boundTo));
      const body = Buffer.concat([cipher.update(plain), cipher.final()]);
      return Buffer.concat([Buffer.of(boxVersion), iv, cipher.getAuthTag(), body]);
    },
    open(sealed, boundTo) {
      assert(sealed[0] === boxVersion, 'the sealed value has a known version');
      const iv = sealed.subarray(1, 1 + ivBytes);
      const tag = sealed.subarray(1 + ivBytes, 1 + ivBytes + tagBytes);
      const decipher = createDecipheriv('aes-256-gcm', masterKey, iv, { authTagLength: tagBytes });
      decipher.setAAD(Buffer.from(boundTo)).setAuthTag(tag);
      return Buffer.concat([decipher.update(sealed.subarray(1 + ivBytes + tagBytes)), decipher.final()]);
    },
  };
}
