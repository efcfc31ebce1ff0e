import { Ajv, type ValidateFunction } from 'ajv';
import type { FastifySchemaCompiler } from 'fastify';
import type { Route } from './route.ts';

/**
 * Validates as the schemas say and changes nothing in a body: no field is dropped, none is coerced, and all faults
 * are reported at once. Query and path are text by nature, so numbers in them are read.
 */
const options = {
  allErrors: true,
  useDefaults: true,
  strict: false,
  formats: { 'date-time': isTime },
} as const;
const bodies = new Ajv(options);
const texts = new Ajv({ ...options, coerceTypes: true });

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

/** `date-time` of RFC 3339, section 5.6. A day that its month hasn't got is none. */
function isTime(text: string): boolean {
  const form = /^\d{4}-\d{2}-(\d{2})T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})$/i.exec(text);
  if (!form || Number.isNaN(Date.parse(text))) return false;
  return new Date(`${text.slice(0, 10)}T00:00:00Z`).getUTCDate() === Number(form[1]);
}
