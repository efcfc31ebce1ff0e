import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { openTestDatabase } from '../../test/helpers/database.ts';
import { arrayText } from './array-text.ts';

const { db } = await openTestDatabase();
/** Whatever PostgreSQL can keep in a text, with the characters that mean something in an array oftener than by chance. */
const text = fc.oneof(
  fc.string({ unit: fc.constantFrom('"', '\\', '{', '}', ',', ' ', '\n', 'n', 'N', 'u', '0', "'", 'é') }),
  fc.string({ unit: 'grapheme' }).filter((one) => !one.includes('\0')),
  fc.constantFrom('', 'null', 'NULL', '{}', '\u2028'),
);

it('a list of texts reaches the database as it is', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.option(text)), async (list) => {
      const [row] = await db.query<{ list: unknown }>('SELECT $1::text[] AS list', [list]);
      expect(row?.list).toEqual(list);
    }),
  );
});

it('a list of numbers does as well', async () => {
  const list = [0, -1.5, 1e21, null];
  const [row] = await db.query<{ list: unknown }>('SELECT $1::float8[] AS list', [list]);
  expect(row?.list).toEqual(list);
});

it.each([
  { of: 'plain texts', value: ['a', 'b"c\\', null], text: '{"a","b\\"c\\\\",null}' },
  { of: 'nothing', value: [], text: '{}' },
])('a list of $of is written at once', ({ value, text: expected }) => {
  expect(arrayText(value)).toBe(expected);
});

it.each([
  { of: 'text with another escape', value: ['a\nb'] },
  { of: 'bytes', value: [Buffer.of(1)] },
  { of: 'times', value: [new Date(0)] },
  { of: 'what is no number', value: [Number.NaN] },
  { of: 'lists', value: [['a']] },
])('a list of $of is left to the driver', ({ value }) => {
  expect(arrayText(value)).toBe(value);
});
