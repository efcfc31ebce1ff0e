import * as fc from 'fast-check';
import { AppError } from '../../kernel/errors.ts';

/** Garbage for headers, and what became of it: shared by the tests of both wire versions. */
export const anyText = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.base64String());

/** What may stand in one place of a good document. */
export const anyJunk = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom('0x', '-1', '1e3', '0x00', `0x${'0'.repeat(40)}`, `0x${'z'.repeat(40)}`, '9'.repeat(78)),
  fc.constantFrom('constructor', '__proto__', '\u0000', 2.5, -1, undefined),
);

export function header(value: unknown): string {
  return Buffer.from(JSON.stringify(value ?? null)).toString('base64');
}

export const readOrRefused = /^(?:read|invalid_payment)$/;

/** What became of a header; an error that isn't an AppError is thrown on. */
export function outcomeOf(decode: (text: string) => unknown, text: string): string {
  try {
    decode(text);
    return 'read';
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return error.message.length < 500 ? error.code : error.message;
  }
}

/** Every place of a document, as the path of keys that leads to it. */
export function placesOf(value: unknown): string[][] {
  if (value === null || typeof value !== 'object') return [[]];
  return [
    [],
    ...Object.entries(value).flatMap(([key, member]) => placesOf(member).map((place) => [key, ...place])),
  ];
}

export function replaced(value: unknown, place: readonly string[], junk: unknown): unknown {
  const [key, ...rest] = place;
  if (key === undefined || value === null || typeof value !== 'object') return junk;
  const members = Object.entries(value).map(([name, member]) => [
    name,
    name === key ? replaced(member, rest, junk) : member,
  ]);
  return Object.fromEntries(members);
}
