import { Ajv, type ValidateFunction } from 'ajv';
import type { FastifySchemaCompiler } from 'fastify';
import type { Route } from './route.ts';

/**
 * Validates as the schemas say and changes nothing in a body: no field is dropped, none is coerced, and all faults
 * are reported at once. Query and path are text by nature, so numbers in them are read.
 */
const bodies = new Ajv({ allErrors: true, useDefaults: true, strict: false });
const texts = new Ajv({ allErrors: true, useDefaults: true, strict: false, coerceTypes: true });

export const compileValidator: FastifySchemaCompiler<object> = ({ schema, httpPart }) =>
  (httpPart === 'body' ? bodies : texts).compile(schema);

/** What a route's body is held to. */
export function bodySchema({ schema: { body }, unknownKeys }: Route): object | undefined {
  return body && unknownKeys === 'ignored' ? { ...body, additionalProperties: true } : body;
}

/** The validation of a route's body, as Fastify has it. */
export function compileBody(route: Route): ValidateFunction {
  return bodies.compile(bodySchema(route) ?? {});
}
