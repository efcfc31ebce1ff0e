import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { displayPrefix, hashApiKey, looksLikeApiKey, newApiKey } from './api-key.ts';

describe('an API key', () => {
  it.each([
    ['sandbox', /^awx_test_[\w-]{43}[0-9a-f]{8}$/],
    ['production', /^awx_live_[\w-]{43}[0-9a-f]{8}$/],
  ] as const)('of %s says so in its form', (kind, form) => {
    const key = newApiKey(kind);
    expect(key).toMatch(form);
    expect(looksLikeApiKey(key)).toBe(true);
    expect(newApiKey(kind)).not.toBe(key);
  });

  it('is told from one with any character changed, without a look-up', () => {
    const key = newApiKey('sandbox');
    fc.assert(
      fc.property(fc.nat(key.length - 1), fc.constantFrom(...'abcXYZ019-_. é'.split('')), (at, character) => {
        fc.pre(key[at] !== character);
        expect(looksLikeApiKey(key.slice(0, at) + character + key.slice(at + 1))).toBe(false);
      }),
    );
  });

  it.each([
    ['cut short', (key: string) => key.slice(0, -1)],
    ['made longer', (key: string) => `${key}0`],
    ['of the other environment', (key: string) => key.replace('test', 'live')],
    ['with spaces', (key: string) => ` ${key}`],
    ['with a line break', (key: string) => `${key}\n`],
    ['of nothing', () => ''],
  ])('is none when %s', (_how, change) => {
    expect(looksLikeApiKey(change(newApiKey('sandbox')))).toBe(false);
  });

  it('shows four characters to its owner, and its hash to nobody', () => {
    const key = newApiKey('production');
    expect(displayPrefix(key)).toBe(key.slice(0, 13));
    expect(hashApiKey(key)).toHaveLength(32);
    expect(hashApiKey(key).equals(hashApiKey(`${key.slice(0, -1)}x`))).toBe(false);
  });

  it('has the checksum that the published form says: CRC-32 of what stands before it', () => {
    // The CRC-32 of RFC 1952, worked out by another program.
    expect(looksLikeApiKey('awx_test_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAa826229c')).toBe(true);
  });
});
