import { type TObject, Type } from 'typebox';
import { type ErrorCode, errorCodes } from '../kernel/errors.ts';
import type { JsonObject } from '../kernel/json.ts';
import { defineRoute, type Route } from './route.ts';

/** Serves the OpenAPI document of the routes, this one included. */
export function openApiRoute(routes: readonly Route[], version: string): Route {
  const route = defineRoute({
    id: 'openapi.get',
    summary: 'This API as OpenAPI 3.1',
    method: 'GET',
    path: '/v1/openapi.json',
    auth: [],
    scopes: [],
    limit: 'open',
    status: 200,
    schema: { response: Type.Record(Type.String(), Type.Unknown()) },
    errors: [],
    cacheControl: 'public, max-age=60',
    handler: async () => document,
  });
  const document: JsonObject = describeApi([...routes, route], version);
  return route;
}

/** The OpenAPI 3.1 document of the routes: the same text that is committed as `openapi.json`. */
export function describeApi(routes: readonly Route[], version: string): JsonObject {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(/:([A-Za-z]+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: describeOperation(route) };
  }
  const document = {
    openapi: '3.1.1',
    info: {
      title: 'Credence',
      version,
      description:
        'A control plane for AI agents: identity, authority, payments and evidence. ' +
        'Every path answers under /api/v1 and /api as well.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    paths: Object.fromEntries(Object.entries(paths).toSorted(([left], [right]) => (left < right ? -1 : 1))),
    components: {
      securitySchemes: {
        agent: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT', description: "An agent's token" },
        api_key: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
        api_key_bearer: { type: 'http', scheme: 'bearer', description: 'An API key' },
        operator: {
          type: 'apiKey',
          in: 'header',
          name: 'X-API-Key',
          description: "The instance's operator key",
        },
        operator_bearer: { type: 'http', scheme: 'bearer', description: "The instance's operator key" },
        person: {
          type: 'http',
          scheme: 'bearer',
          description: 'A session; in development mode none is needed',
        },
      },
      schemas: { OAuthError: oauthErrorSchema, Problem: problemSchema },
    },
  };
  // The schemas carry non-enumerable marks of the type builder; JSON leaves plain data.
  return JSON.parse(JSON.stringify(document)) as JsonObject;
}

function describeOperation(route: Route): unknown {
  const { params, query, body, response } = route.schema;
  return {
    operationId: route.id,
    summary: route.summary,
    security: describeSecurity(route),
    parameters: [
      ...describeParameters('path', params),
      ...describeParameters('query', query),
      ...(route.method === 'POST' && route.auth.length > 0 ? [idempotencyKey] : []),
    ],
    ...(body
      ? {
          requestBody: {
            required: (body.required?.length ?? 0) > 0,
            content: { ...json(body), ...(route.form ? form(body) : {}) },
          },
        }
      : {}),
    responses: {
      [route.status]: {
        description: 'Success',
        ...(route.status === 204
          ? {}
          : { content: { [route.contentType ?? 'application/json']: { schema: response } } }),
      },
      ...describeErrors(route),
    },
  };
}

/** Each alternative is one way in. Scopes are named in prose: OpenAPI has them for OAuth only. */
function describeSecurity(route: Route): Record<string, string[]>[] {
  return route.auth.flatMap((kind) =>
    kind === 'api_key' || kind === 'operator'
      ? [{ [kind]: [] }, { [`${kind}_bearer`]: [] }]
      : [{ [kind]: [] }],
  );
}

function describeParameters(place: 'path' | 'query', schema: TObject | undefined): unknown[] {
  return Object.entries(schema?.properties ?? {}).map(([name, property]) => ({
    name,
    in: place,
    required: schema?.required?.includes(name) ?? false,
    schema: property,
  }));
}

function describeErrors(route: Route): Record<string, unknown> {
  const byStatus = Map.groupBy(errorsOf(route), (code) => errorCodes[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => [
      status,
      {
        description: codes.map((code) => `\`${code}\`: ${errorCodes[code].title}`).join('; '),
        content: route.path.startsWith('/oauth/')
          ? { 'application/json': { schema: { $ref: '#/components/schemas/OAuthError' } } }
          : { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
      },
    ]),
  );
}

/** Every code that the route can answer with: its own, and those that come with what it declares. */
export function errorsOf(route: Route): ErrorCode[] {
  const { params, query, body } = route.schema;
  const codes = new Set<ErrorCode>(route.errors);
  if (query || body) codes.add('invalid_request');
  if (params) codes.add('not_found');
  if (body) for (const code of ['payload_too_large', 'unsupported_media_type'] as const) codes.add(code);
  if (route.auth.length > 0) for (const code of ['unauthorized', 'forbidden'] as const) codes.add(code);
  if (route.auth.length > 0 && route.method === 'POST') codes.add('idempotency_key_reused');
  codes.add('rate_limited');
  codes.add('internal_error');
  return [...codes];
}

const idempotencyKey = {
  name: 'Idempotency-Key',
  in: 'header',
  required: false,
  description: 'The same key and request, the same answer, for a day',
  schema: { type: 'string', minLength: 1, maxLength: 255 },
};

const problemSchema = {
  type: 'object',
  required: ['type', 'title', 'status', 'code', 'detail', 'request_id'],
  properties: {
    type: { type: 'string' },
    title: { type: 'string' },
    status: { type: 'integer' },
    code: { type: 'string', enum: Object.keys(errorCodes) },
    detail: { type: 'string', description: 'What went wrong, and what to do' },
    request_id: { type: 'string' },
    errors: {
      type: 'array',
      items: {
        type: 'object',
        required: ['field', 'message'],
        properties: { field: { type: 'string' }, message: { type: 'string' } },
      },
    },
    next: { type: 'object', additionalProperties: { type: 'string' } },
  },
};

/** RFC 6749 section 5.2. */
const oauthErrorSchema = {
  type: 'object',
  required: ['error', 'error_description'],
  properties: { error: { type: 'string' }, error_description: { type: 'string' } },
};

function form(schema: object): Record<string, unknown> {
  return { 'application/x-www-form-urlencoded': { schema } };
}

function json(schema: object): Record<string, unknown> {
  return { 'application/json': { schema } };
}
