import { type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { ValidateFunction } from 'ajv';
import { assert } from '../kernel/assert.ts';
import type { AppError } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';
import { readForm } from './form.ts';
import { renderError } from './problem.ts';
import type { Route } from './route.ts';
import { compileBody } from './schema-compiler.ts';
import type { ControlServerOptions } from './server.ts';
import { refuseUnstorableText, toAppError } from './validation.ts';

type DirectRoute = Route & { validate: ValidateFunction };

/**
 * Answers the plain requests to routes that say `direct` on Node's own server, and gives every other one to `next`, which is Fastify:
 * the way there and back costs more than the whole of what a token needs besides its signature. A direct route is one of Fastify's as
 * well, so that what is said of a request in two ways must come out alike: `direct.test.ts` compares them.
 */
export function answerDirectly(options: ControlServerOptions, next: RequestListener): RequestListener {
  const byPath = new Map(
    options.routes.filter(({ direct }) => direct).map((route) => [route.path as string, prepare(route)]),
  );
  return (request, response) => {
    const route = byPath.get(request.url ?? '');
    if (!route || !isPlain(request, route, options)) return next(request, response);
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => void answer(options, route, { request, response, chunks }));
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

/** A form of known and usual length, from whom the connection shows, asking for nothing besides. */
function isPlain(
  { method, headers }: IncomingMessage,
  route: DirectRoute,
  { trustedProxies }: ControlServerOptions,
): boolean {
  return (
    method === route.method &&
    /^application\/x-www-form-urlencoded(?:; *charset=utf-8)?$/i.test(headers['content-type'] ?? '') &&
    Number(headers['content-length']) <= limits.apiBodyBytes &&
    headers['idempotency-key'] === undefined &&
    (trustedProxies.length === 0 || headers['x-forwarded-for'] === undefined)
  );
}

interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  chunks: readonly Buffer[];
}

async function answer(options: ControlServerOptions, route: DirectRoute, exchange: Exchange): Promise<void> {
  const { request, response } = exchange;
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
      address: request.socket.remoteAddress,
      durationMs: Math.round(performance.now() - startedAt),
    },
    'request',
  );
}

async function handle(
  { db, clock, box }: ControlServerOptions,
  route: DirectRoute,
  { request, response, chunks }: Exchange,
  requestId: string,
): Promise<unknown> {
  const body = readForm(Buffer.concat(chunks).toString());
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
      clientAddress: request.socket.remoteAddress ?? null,
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
  response.writeHead(answered.status, {
    ...answered.headers,
    'content-type': answered.contentType,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-request-id': requestId,
  });
  response.end(text);
}
