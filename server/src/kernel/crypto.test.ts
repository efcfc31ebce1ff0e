import { randomBytes } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSecretBox, drawRandom, equalDigests, randomSecret, sha256 } from './crypto.ts';

const box = createSecretBox(randomBytes(32));
const bytes = fc.uint8Array({ maxLength: 100 }).map((array) => Buffer.from(array));

describe('a secret box', () => {
  it('opens what it sealed, for the row that it was sealed for', () => {
    fc.assert(
      fc.property(bytes, fc.string(), (plain, row) => {
        expect(box.open(box.seal(plain, row), row)).toEqual(plain);
      }),
    );
  });

  it('refuses a value that was moved to another row', () => {
    const sealed = box.seal(Buffer.from('secret'), 'wallets/1/key');
    for (const row of ['wallets/2/key', 'wallets/1/ke', 'wallets/1/key ', ''])
      expect(() => box.open(sealed, row)).toThrow(/authenticate|version|tag|initialization vector/i);
  });

  it('refuses a value with any bit flipped', () => {
    const sealed = box.seal(Buffer.from('secret'), 'row');
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const flipped = Buffer.from(sealed);
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => box.open(flipped, 'row'), `bit ${bit}`).toThrow(
        /authenticate|version|tag|initialization vector/i,
      );
    }
  });

  it('refuses a value that was cut short, at any length', () => {
    const sealed = box.seal(Buffer.from('secret'), 'row');
    for (let length = 0; length < sealed.length; length += 1)
      expect(() => box.open(sealed.subarray(0, length), 'row'), `${length} bytes`).toThrow(
        /authenticate|version|tag|initialization vector/i,
      );
  });

  it('refuses a value that another key sealed', () => {
    const sealed = createSecretBox(randomBytes(32)).seal(Buffer.from('secret'), 'row');
    expect(() => box.open(sealed, 'row')).toThrow(/authenticate|version|tag|initialization vector/i);
  });

  it('seals one text differently each time, and shows nothing of it', () => {
    const plain = Buffer.from('a secret that is long enough to be found');
    const sealed = [box.seal(plain, 'row'), box.seal(plain, 'row')] as const;
    expect(sealed[0].equals(sealed[1])).toBe(false);
    expect(sealed[0].includes(plain.subarray(0, 8))).toBe(false);
  });

  it.each([0, 16, 31, 33])('does not take a master key of %d bytes', (length) => {
    expect(() => createSecretBox(Buffer.alloc(length))).toThrow('32 bytes');
  });
});

describe('digests', () => {
  // FIPS 180-2, appendix B.1.
  it('sha256 is SHA-256', () => {
    expect(sha256('abc').toString('hex')).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
  });

  it.each([
    ['a', 'a', true],
    ['a', 'b', false],
  ])('of %s and %s are equal: %s', (left, right, equal) => {
    expect(equalDigests(sha256(left), sha256(right))).toBe(equal);
  });

  it('of different lengths are not equal, and are no error', () => {
    expect(equalDigests(sha256('a'), sha256('a').subarray(1))).toBe(false);
  });

  it('a random secret has as many bits as were asked for', () => {
    expect(Buffer.from(randomSecret(), 'base64url')).toHaveLength(32);
    expect(Buffer.from(randomSecret(16), 'base64url')).toHaveLength(16);
    expect(randomSecret()).not.toBe(randomSecret());
  });
});

describe('drawn random bytes', () => {
  it('are as many as asked for, never the same twice, and their owner’s alone', () => {
    const all = Array.from({ length: 1000 }, (_, index) => drawRandom(index % 2 === 0 ? 32 : 16));
    expect(all.map(({ length }) => length)).toEqual(all.map((_, index) => (index % 2 === 0 ? 32 : 16)));
    expect(new Set(all.map((drawn) => drawn.subarray(0, 16).toString('hex'))).size).toBe(1000);
    // Bytes that two draws shared would have been wiped by the first: 1,000 of them have about 250 values.
    for (const at of [0, -1]) expect(new Set(all.map((drawn) => drawn.at(at))).size).toBeGreaterThan(200);
    all[0]?.fill(0);
    expect(all.slice(1).some((drawn) => drawn.every((byte) => byte === 0))).toBe(false);
  });
});
