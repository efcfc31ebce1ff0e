import { describe, expect, it } from 'vitest';
import { writeHex } from './hex.ts';

describe('writeHex', () => {
  it('writes both letter cases at the offset, and nothing beside it', () => {
    const target = Buffer.alloc(5, 0xee);
    expect(writeHex(target, 1, '0x0aFfB9', 3)).toBe(true);
    expect(target.toString('hex')).toBe('ee0affb9ee');
  });

  it.each([
    ['0x0aff', 'too short'],
    ['0x0affb9c0', 'too long'],
    ['0X0affb9', 'another prefix'],
    ['000affb9', 'no prefix'],
    ['0x0affbg', 'a letter after f'],
    ['0x0affb`', 'the character before a'],
    ['0x0affb:', 'the character after 9'],
    ['0x0affb ', 'a space'],
    ['0x\u01300\u0141ffb', 'letters whose lower byte is a digit of ASCII'],
  ])('refuses %j: %s', (text) => {
    expect(writeHex(Buffer.alloc(3), 0, text, 3)).toBe(false);
  });
});
