const asciiCodes = 128;
const notHex = 0xff;

const digitOf = new Uint8Array(asciiCodes).fill(notHex);
for (let digit = 0; digit < 16; digit++) {
  const text = digit.toString(16);
  digitOf[text.charCodeAt(0)] = digit;
  digitOf[text.toUpperCase().charCodeAt(0)] = digit;
}

/**
 * Writes `0x…` of exactly `length` bytes into `target`. False where the text is anything else; `target` is then not to be
 * used. Buffer's own parser stops silently at what isn't hex, and takes `İ` (U+0130) for `0`.
 */
export function writeHex(target: Uint8Array, offset: number, text: string, length: number): boolean {
  if (text.length !== 2 + 2 * length || !text.startsWith('0x')) return false;
  for (let at = 0; at < length; at++) {
    const high = digitOf[text.charCodeAt(2 + 2 * at)] ?? notHex;
    const low = digitOf[text.charCodeAt(3 + 2 * at)] ?? notHex;
    if (high === notHex || low === notHex) return false;
    target[offset + at] = (high << 4) | low;
  }
  return true;
}
