import { Type } from 'typebox';
import { expect, it } from 'vitest';
import { compileValidator } from './schema-compiler.ts';

const schema = Type.Object({ at: Type.String({ format: 'date-time' }) });
const validate = compileValidator({ schema, method: 'POST', url: '/', httpPart: 'body' });

it.each([
  '2026-11-22T05:34:41Z',
  '2026-11-22T05:34:41.123Z',
  '2026-11-22T05:34:41+01:00',
  '2028-02-29T00:00:00Z',
])('%s is a time', (at) => {
  expect(validate({ at })).toBe(true);
});

it.each([
  'tomorrow',
  '2026-11-22',
  '2026-11-22 05:34:41Z',
  '2026-11-22T05:34:41',
  '2026-13-01T00:00:00Z',
  '2026-02-31T00:00:00Z',
  '2026-11-22T25:00:00Z',
])('%s is none', (at) => {
  expect(validate({ at })).toBe(false);
});
