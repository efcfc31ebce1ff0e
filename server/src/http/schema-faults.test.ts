import { Type } from 'typebox';
import { describe, expect, it } from 'vitest';
import { compileValidator } from './schema-compiler.ts';
import { describeFaults, type SchemaFault } from './schema-faults.ts';

const Body = Type.Object(
  {
    end: Type.Optional(Type.Union([Type.String({ format: 'date-time' }), Type.Null()])),
    start: Type.Optional(Type.String({ format: 'date-time' })),
    state: Type.Optional(Type.Union([Type.Literal('open'), Type.Literal('closed')])),
    terms: Type.Optional(
      Type.Union([
        Type.String(),
        Type.Object({ version: Type.Literal(1), price: Type.String() }),
        Type.Object({ version: Type.Literal(2), price: Type.String() }),
      ]),
    ),
  },
  { additionalProperties: false },
);

function faultsOf(body: unknown): string[] {
  const validate = compileValidator({ schema: Body, method: 'POST', url: '/', httpPart: 'body' });
  if (validate(body)) return [];
  const { errors } = validate as unknown as { errors: SchemaFault[] };
  return describeFaults(errors).map(({ field, message }) => `${field} ${message}`);
}

const aTime = 'must be a time with its zone, such as 2026-01-31T09:30:00Z';

describe('what is wrong with a body', () => {
  it.each([
    [{ colour: 'red' }, ['colour is not a known field']],
    [[], ['body must be object']],
    [{ end: 'soon' }, [`end ${aTime}`]],
    [{ end: 5 }, ['end must be string or null']],
    [{ state: 'ajar' }, ['state must be open or closed']],
    [{ terms: 5 }, ['terms must be string or object']],
    [{ terms: { version: 1 } }, ['terms.price is missing']],
    [{ terms: { version: 3, price: '1' } }, ['terms.version must be 1', 'terms.version must be 2']],
    [{ terms: {} }, ['terms.version is missing', 'terms.price is missing']],
    [{ start: 'x', end: 'y' }, [`end ${aTime}`, `start ${aTime}`]],
  ])('%j is told as %j', (body, told) => {
    expect(faultsOf(body).toSorted()).toEqual(told.toSorted());
  });
});
