import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  displayPrefix,
  isClientSecretShaped,
  looksLikeClientSecret,
  newClientSecret,
} from './client-secret.ts';

describe('a client secret', () => {
  it('is cs_ and 49 characters that a double click takes together, never twice the same', () => {
    const secrets = Array.from({ length: 500 }, newClientSecret);
    for (const secret of secrets) expect(secret).toMatch(/^cs_[0-9A-Za-z]{49}$/);
    for (const secret of secrets) expect(looksLikeClientSecret(secret)).toBe(true);
    expect(new Set(secrets).size).toBe(500);
  });

  it('is told from one with any character changed, without a look-up', () => {
    const secret = newClientSecret();
    fc.assert(
      fc.property(
        fc.integer({ min: 3, max: secret.length - 1 }),
        fc.constantFrom(...'abcXYZ019-_. '.split('')),
        (at, character) => {
          fc.pre(secret[at] !== character);
          expect(looksLikeClientSecret(secret.slice(0, at) + character + secret.slice(at + 1))).toBe(false);
        },
      ),
    );
  });

  it('has the checksum that the published form says: CRC-32 of what stands before it, in base 62', () => {
    // The CRC-32 of RFC 1952, and its six digits, worked out by another program.
    expect(looksLikeClientSecret(`cs_${'0'.repeat(43)}1dKLTj`)).toBe(true);
  });

  it('of the first version keeps working: 43 characters of base64url', () => {
    expect(looksLikeClientSecret(`cs_${'a-_Z0'.repeat(8)}abc`)).toBe(true);
  });

  it.each([
    [
      'mistyped',
      (secret: string) => `${secret.slice(0, -1)}!`.replace('!', secret.endsWith('0') ? '1' : '0'),
    ],
    ['cut short', (secret: string) => secret.slice(0, -9)],
    ['too long', (secret: string) => `${secret}00`],
    ['of the first version', () => `cs_${'a-_Z0'.repeat(8)}abc`],
  ])('is known for one when %s, so that no seller sees it', (_how, change) => {
    expect(isClientSecretShaped(change(newClientSecret()))).toBe(true);
  });

  it.each(['cs_', 'cs_agent', 'my-cs_0000000000000000000000000000000000', 'client-7'])(
    '%s is none, and may be an agent’s name',
    (name) => expect(isClientSecretShaped(name)).toBe(false),
  );

  it('shows four characters to its owner', () => {
    expect(displayPrefix('cs_abcdefgh')).toBe('cs_abcd');
  });
});
