import { AppError } from '../../kernel/errors.ts';

/**
 * What is granted of what an agent may have (RFC 6749 section 3.3): everything where nothing is asked for, else what is
 * asked for. Throws `invalid_scope` where that is more, or is no list of scopes. Never wider than `allowed`.
 */
export function grantScope(asked: string | undefined, allowed: readonly string[]): string {
  if (asked === undefined) return allowed.join(' ');
  const words = splitScope(asked);
  if (!words)
    throw new AppError('invalid_scope', 'scope must be words of visible characters with single spaces');
  const beyond = words.filter((word) => !allowed.includes(word));
  if (beyond.length > 0) {
    const may = allowed.length > 0 ? `it may have ${allowed.join(' ')}` : 'it has none';
    throw new AppError('invalid_scope', `The agent may not have ${beyond.join(' ')}: ${may}`);
  }
  return words.join(' ');
}

/** The scopes of a text, each once, in their order; nothing where the text isn't in the form of RFC 6749 section 3.3. */
export function splitScope(text: string): string[] | undefined {
  if (!/^[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*$/.test(text)) return undefined;
  return [...new Set(text.split(' '))];
}
