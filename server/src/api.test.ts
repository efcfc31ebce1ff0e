import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import packageJson from '../package.json' with { type: 'json' };
import { describedRoutes } from './api.ts';
import { describeApi, type Route } from './http/index.ts';
import { errorsOf } from './http/openapi.ts';
import { rateLimits } from './http/route.ts';
import { errorCodes } from './kernel/errors.ts';

const routes = describedRoutes();
const named = routes.map((route) => [route.id, route] as const);

type Schema = Record<string, unknown>;

/** Every schema within a schema, itself included. */
function schemasIn(value: unknown): Schema[] {
  if (value === null || typeof value !== 'object') return [];
  return [value as Schema, ...Object.values(value).flatMap(schemasIn)];
}

/** Objects that list their members; a record of anything by name is another thing. */
const closedObjects = (schema: unknown) =>
  schemasIn(schema).filter((part) => part['type'] === 'object' && typeof part['properties'] === 'object');

describe('the routes', () => {
  it('have names of their own, and paths of their own', () => {
    expect(routes.length).toBeGreaterThan(10);
    expect(new Set(routes.map(({ id }) => id)).size).toBe(routes.length);
    expect(new Set(routes.map(({ method, path }) => `${method} ${path}`)).size).toBe(routes.length);
  });

  it.each(named)(
    '%s is called noun.verb, and says who may call it, how often, and what it answers',
    (_id, route) => {
      expect(route.id).toMatch(/^[a-z]+(_[a-z]+)*\.[a-z0-9]+(_[a-z0-9]+)*$/);
      expect(route.summary).not.toBe('');
      expect(Array.isArray(route.auth)).toBe(true);
      expect(rateLimits).toHaveProperty(route.limit);
      expect([200, 201, 204]).toContain(route.status);
      expect(route.schema.response).toBeDefined();
      for (const code of route.errors) expect(errorCodes).toHaveProperty(code);
    },
  );

  it.each(named)(
    '%s is an action or a read with 200, creates with 201 by POST, or ends with 204 by DELETE',
    (_id, route) => {
      const creates = /\.(?:create|register|add|create_intent|sign_x402)$|^credits\.issue$/.test(route.id);
      expect(route.status).toBe(route.method === 'DELETE' ? 204 : creates ? 201 : 200);
      expect(!creates || route.method === 'POST').toBe(true);
    },
  );

  it.each(named)('%s reads every parameter of its path, and no other', (_id, route) => {
    const inPath = [...route.path.matchAll(/:([A-Za-z]+)/g)].map((match) => match[1]);
    expect(Object.keys(route.schema.params?.properties ?? {})).toEqual(inPath);
  });

  it.each(named)('%s asks an API key for a scope, unless it takes none', (_id, route) => {
    expect(route.scopes.length > 0).toBe(route.auth.includes('api_key'));
  });

  const readers = named.filter(([, route]) => route.unknownKeys !== 'ignored');
  it.each(readers)('%s refuses keys that it does not know, at every depth', (_id, route) => {
    const { body, query } = route.schema;
    // What a 402 of any seller says is read as it comes: its standard lets it grow.
    const ours = route.id === 'payment.sign_x402' ? [body] : closedObjects(body);
    for (const part of [...ours, ...closedObjects(query)])
      expect(part).toMatchObject({ additionalProperties: false });
  });

  it('ignore unknown keys only where a standard says so', () => {
    const ignoring = routes.filter(({ unknownKeys }) => unknownKeys === 'ignored').map(({ path }) => path);
    expect(ignoring).toContain('/register');
    for (const path of ignoring) expect(path).toMatch(/^\/(?:oauth|access|facilitator|register|refresh)/);
  });
});

describe('the OpenAPI document', () => {
  const document = describeApi(routes, packageJson.version) as unknown as {
    openapi: string;
    info: Schema;
    paths: Record<string, Record<string, Schema>>;
    components: { securitySchemes: Schema };
  };
  const operationOf = ({ method, path }: Route): Schema =>
    document.paths[path.replaceAll(/:([A-Za-z]+)/g, '{$1}')]?.[method.toLowerCase()] ?? {};

  it('is of version 3.1, and resolves each of its references', () => {
    expect(document.openapi).toMatch(/^3\.1\.\d+$/);
    expect(document.info).toMatchObject({ title: 'Credence', version: packageJson.version });
    const references = schemasIn(document).flatMap((part) =>
      typeof part['$ref'] === 'string' ? [part['$ref']] : [],
    );
    expect(references.length).toBeGreaterThan(0);
    for (const reference of references) {
      const parts = reference.replace(/^#\//, '').split('/');
      const target = parts.reduce<Schema | undefined>(
        (at, part) => at?.[part] as Schema | undefined,
        document,
      );
      expect(target, `target of ${reference}`).toBeDefined();
    }
  });

  it('describes every route once', () => {
    const operations = Object.values(document.paths).flatMap((path) => Object.values(path));
    const ids = operations.map((operation) => operation['operationId']);
    expect(ids).toHaveLength(routes.length);
    expect(new Set(ids)).toEqual(new Set(routes.map(({ id }) => id)));
  });

  it.each(named)('says of %s each status that it can answer with', (_id, route) => {
    const codes = errorsOf(route).map((code) => errorCodes[code].status);
    const statuses = new Set([route.status, ...codes].map(String));
    expect(new Set(Object.keys(operationOf(route)['responses'] ?? {}))).toEqual(statuses);
  });

  it.each(named)('says of %s which credentials it takes, from those that it defines', (_id, route) => {
    const defined = Object.keys(document.components.securitySchemes);
    const security = (operationOf(route)['security'] ?? []) as Schema[];
    const names = security.flatMap((choice) => Object.keys(choice));
    for (const name of names) expect(defined).toContain(name);
    expect(names.length > 0).toBe(route.auth.length > 0);
  });

  it('holds only schemas that are JSON Schema 2020-12, as OpenAPI 3.1 has them', () => {
    const ajv = new Ajv2020({ strict: false, logger: false });
    const schemas = schemasIn(document.paths).flatMap((part) =>
      part['schema'] ? [part['schema'] as Schema] : [],
    );
    expect(schemas.length).toBeGreaterThan(routes.length);
    expect(schemas.filter((schema) => !ajv.validateSchema(schema))).toEqual([]);
  });
});
