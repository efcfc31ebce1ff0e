import { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { ValidateFunction } from 'ajv';
import { assert } from '../kernel/assert.ts';
import type { AppError } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';
import { createAddressReader } from './client-address.ts';
import { readForm } from './form.ts';
import { renderError } from './problem.ts';
import type { Route } from './route.ts';
import { compileBody } from './schema-compiler.ts';
import type { ControlServerOptions } from './server.ts';
import { refuseUnstorableText, toAppError } from './validation.ts';

type DirectRoute = Route & { validate: ValidateFunction };

export interface DirectOptions extends ControlServerOptions {
  /** As Fastify reads it. */
  readJson(text: string): unknown;
}

/**
 * Answers the plain requests to routes that say `direct` on Node's own server, and gives every other one to `next`, which is Fastify:
 * the way there and back costs more than the whole of what a token needs besides its signature. A direct route is one of Fastify's as
 * well, so that what is said of a request in two ways must come out alike: `direct.test.ts` compares them.
 */
export function answerDirectly(options: DirectOptions, next: RequestListener): RequestListener {
  const byPath = new Map(
    options.routes.filter(({ direct }) => direct).map((route) => [route.path as string, prepare(route)]),
  );
  const addressOf = createAddressReader(options.trustedProxies);
  return (request, response) => {
    const route = byPath.get(request.url ?? '');
    if (!route || !isPlain(request, route)) return next(request, response);
    const address = addressOf(request);
    // Who has left by now can't be told from others, nor be answered.
    if (address === undefined) return void request.destroy();
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => void answer(options, route, { request, response, chunks, address }));
    // The client has left before its request was whole: there is nobody to answer.
    request.on('error', () => undefined);
  };
}

function prepare(route: Route): DirectRoute {
  const { auth, form, limit, schema, status, cacheControl, contentType } = route;
  assert(auth.length === 0 && limit === 'token', `${route.id}: a direct route is public, and counts nothing`);
  assert(
    form === true && status === 200 && cacheControl === undefined && contentType === undefined,
    `${route.id}: a direct route takes a form, and answers JSON that isn't kept`,
  );
  assert(schema.body !== undefined && !schema.params && !schema.query, `${route.id}: a form is all it takes`);
  return Object.assign({}, route, { validate: compileBody(route) });
}

/** A form or JSON of known and usual length, asking for nothing besides. */
function isPlain({ method, headers }: IncomingMessage, route: DirectRoute): boolean {
  return (
    method === route.method &&
    plainType.test(headers['content-type'] ?? '') &&
    Number(headers['content-length']) <= limits.apiBodyBytes &&
    headers['idempotency-key'] === undefined
  );
}

const plainType = /^application\/(?:x-www-form-urlencoded|json)(?:; *charset=utf-8)?$/i;
const jsonType = /^application\/json/i;

interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  chunks: readonly Buffer[];
  address: string;
}

async function answer(options: DirectOptions, route: DirectRoute, exchange: Exchange): Promise<void> {
  const { request, response, address } = exchange;
  const startedAt = performance.now();
  const requestId = `req_${crypto.randomUUID()}`;
  try {
    const result = await handle(options, route, exchange, requestId);
    send(response, requestId, {
      status: route.status,
      contentType: 'application/json; charset=utf-8',
      body: result,
    });
  } catch (error) {
    sendError(options, exchange, requestId, toAppError(error));
  }
  options.logger.info(
    {
      reqId: requestId,
      method: request.method,
      path: route.path,
      status: response.statusCode,
      actor: 'anonymous',
      address,
      durationMs: Math.round(performance.now() - startedAt),
    },
    'request',
  );
}

async function handle(
  { db, clock, box, readJson }: DirectOptions,
  route: DirectRoute,
  { request, response, chunks, address }: Exchange,
  requestId: string,
): Promise<unknown> {
  const [first] = chunks;
  const text = (chunks.length === 1 && first ? first : Buffer.concat(chunks)).toString();
  const body = jsonType.test(request.headers['content-type'] ?? '') ? readJson(text) : readForm(text);
  refuseUnstorableText(body);
  if (!route.validate(body)) throw toAppError({ validation: route.validate.errors });
  return route.handler({
    principal: null,
    params: {},
    query: {},
    body,
    request: {
      method: route.method,
      path: route.path,
      headers: request.headers,
      setHeader: (name, value) => void response.setHeader(name, value),
    },
    context: {
      db,
      clock,
      box,
      actor: { kind: 'anonymous', id: 'anonymous' },
      scope: 'instance',
      requestId,
      clientAddress: address,
    },
  });
}

function sendError(
  { logger }: ControlServerOptions,
  { request, response }: Exchange,
  requestId: string,
  error: AppError,
): void {
  if (error.status >= 500) logger.error({ reqId: requestId, err: error.cause ?? error }, error.code);
  send(response, requestId, renderError(error, request.url ?? '', requestId));
}

function send(
  response: ServerResponse,
  requestId: string,
  answered: { status: number; contentType: string; headers?: Record<string, string>; body: unknown },
): void {
  const text = JSON.stringify(answered.body);
  // A list is written as it is; an object would be looked through first.
  const headers = Object.entries(answered.headers ?? {}).flat();
  response.writeHead(answered.status, [
    ...headers,
    'content-type',
    answered.contentType,
    'content-length',
    String(Buffer.byteLength(text)),
    'cache-control',
    'no-store',
    'x-request-id',
    requestId,
  ]);
  response.end(text);
}
