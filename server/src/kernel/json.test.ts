import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { canonicalJson, parseTyped, stringifyTyped } from './json.ts';

/** JSON without -0, which JSON has no word for. */
const leaf = fc.oneof(
  fc.string(),
  fc.integer(),
  fc.boolean(),
  fc.constant(null),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => number + 0),
);
const key = fc.oneof(fc.string(), fc.constantFrom('$bigint', '$date', '$plain', '__proto__', 'toJSON', '1'));
const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.array(tie('value')),
    fc.dictionary(key, tie('value'), { noNullPrototype: true }),
  ),
})).value;
const typed = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.bigInt(),
    fc.date({ noInvalidDate: true }),
    fc.array(tie('value')),
    fc.dictionary(key, tie('value'), { noNullPrototype: true }),
  ),
})).value;

describe('stored JSON', () => {
  it('keeps bigint and Date, and takes nothing else for one', () => {
    fc.assert(
      fc.property(typed, (value) => {
        expect(parseTyped(stringifyTyped(value))).toStrictEqual(value);
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    [{ $bigint: '12' }],
    [{ $bigint: 'not a number' }],
    [{ $date: '2026-01-01T00:00:00.000Z' }],
    [{ $plain: [] }],
    [{ $plain: { $bigint: '1' } }],
    [[{ a: { $date: 1, b: 12 } }]],
  ])('keeps a text that looks like one of its own marks: %j', (value) => {
    expect(parseTyped(stringifyTyped(value))).toStrictEqual(value);
  });
});

describe('canonicalJson', () => {
  it('does not depend on the order of members', () => {
    fc.assert(
      fc.property(json, (value) => {
        expect(canonicalJson(reversed(value))).toBe(canonicalJson(value));
      }),
    );
  });

  it('says the same value', () => {
    fc.assert(
      fc.property(json, (value) => {
        expect(JSON.parse(canonicalJson(value))).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  it.each([
    [{ b: 1, a: { d: 1, c: 2 } }, '{"a":{"c":2,"d":1},"b":1}'],
    [[2, 1], '[2,1]'],
    [{ 10: 1, 9: 2 }, '{"9":2,"10":1}'],
  ])('%j', (value, text) => {
    expect(canonicalJson(value)).toBe(text);
  });

  it('tells different bodies apart', () => {
    expect(canonicalJson({ a: '1' })).not.toBe(canonicalJson({ a: 1 }));
    expect(canonicalJson({ a: null })).not.toBe(canonicalJson({}));
  });
});

function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value)
      .toReversed()
      .map(([name, member]) => [name, reversed(member)]),
  );
}
