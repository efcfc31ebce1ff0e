import rateLimit, { type RateLimitOptions } from '@fastify/rate-limit';
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Database, SharedCounts, SharedLimit, WriteContext } from '../db/index.ts';
import { addressBlock } from '../kernel/address-block.ts';
import type { Clock } from '../kernel/clock.ts';
import { type SecretBox, sha256 } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import { canonicalJson } from '../kernel/json.ts';
import { limits } from '../kernel/limits.ts';
import { type Authenticators, authenticate } from './authentication.ts';
import { createFailureLimit, type FailureLimit } from './failure-limit.ts';
import { readForm } from './form.ts';
import { createJsonReader } from './json-body.ts';
import { actorOf, type Principal } from './principal.ts';
import { renderError } from './problem.ts';
import { rateLimits, type Route, sharedLimits } from './route.ts';
import { bodySchema, compileValidator } from './schema-compiler.ts';
import { refuseUnstorableText, toAppError } from './validation.ts';

declare module 'fastify' {
  interface FastifyRequest {
    principal: Principal | null;
    /** Of the caller, read while it was there: `ip` is gone with its connection. */
    clientAddress: string;
  }
}

export interface ControlServerOptions {
  routes: readonly Route[];
  authenticators: Authenticators;
  db: Database;
  /** What all processes count together. */
  counts: SharedCounts;
  clock: Clock;
  box: SecretBox;
  logger: FastifyBaseLogger;
  /** Whose `X-Forwarded-For` is believed. */
  trustedProxies: readonly string[];
  /** The gateway's URL of a slug that somebody called on this plane by mistake. */
  findGatewayUrl(slug: string): Promise<string | undefined>;
}

/** The control plane's HTTP server, not yet listening: `routing` takes its requests once `ready()` has ended. */
export async function createControlServer(options: ControlServerOptions): Promise<FastifyInstance> {
  const rootPaths = new Set(
    options.routes.map(({ path }) => path).filter((path) => !path.startsWith('/v1/')),
  );
  const app = Fastify({
    loggerInstance: options.logger,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: limits.apiBodyBytes,
    ...(options.trustedProxies.length > 0 ? { trustProxy: [...options.trustedProxies] } : {}),
    genReqId: () => `req_${crypto.randomUUID()}`,
    rewriteUrl: (request) => rewritePrefix(request.url ?? '/', rootPaths),
    // What fails before a route is found, such as "%ff" in a path, knows no hook and no error handler.
    frameworkErrors: (error, request, reply) => {
      void sendError(reply.header('x-request-id', request.id), request, toAppError(error));
    },
    routerOptions: { ignoreTrailingSlash: true },
  });
  app.decorateRequest('principal', null);
  app.decorateRequest('clientAddress', '');
  app.addHook('onRequest', readAddress);
  app.setValidatorCompiler(compileValidator);
  acceptEmptyJson(app);
  reportErrors(app, options);
  await app.register(rateLimit, { global: false });

  const given = { ...options, failures: createFailureLimit(options) };
  for (const route of options.routes.filter(({ form }) => !form)) addRoute(app, route, given);
  await app.register(async (forms) => {
    acceptForms(forms);
    for (const route of options.routes.filter(({ form }) => form)) addRoute(forms, route, given);
  });
  app.addHook('onResponse', logRequest);
  return app;
}

/** Who has left by now can't be told from others, nor be answered. */
async function readAddress(request: FastifyRequest): Promise<void> {
  const address = request.ip as string | undefined;
  if (address === undefined)
    throw new AppError('invalid_request', 'The connection ended before its request was read');
  request.clientAddress = address;
}

/** `/api/v1/…` and `/api/…` are `/v1/…`: clients write all three. What has its place at the root is found there under each of them. */
export function rewritePrefix(url: string, rootPaths: ReadonlySet<string>): string {
  const match = /^(?:\/api(?:\/v1)?|\/v1)(?=\/|\?|$)(.*)$/.exec(url);
  if (!match) return url;
  const [, rest = ''] = match;
  return rootPaths.has(rest.split('?', 1)[0] ?? '') ? rest : `/v1${rest}`;
}

function addRoute(
  app: FastifyInstance,
  route: Route,
  options: ControlServerOptions & { failures: FailureLimit },
): void {
  const { params, query, response } = route.schema;
  const body = bodySchema(route);
  const shared = sharedLimits[route.limit];
  app.route({
    method: route.method,
    url: route.path,
    schema: {
      ...(params ? { params } : {}),
      ...(query ? { querystring: query } : {}),
      ...(body ? { body } : {}),
      response: { [route.status]: response },
    },
    config: route.limit === 'token' || shared ? {} : { rateLimit: rateLimitOf(route) },
    ...(shared ? { preValidation: countShared(options.counts, route, shared) } : {}),
    onRequest: async (request) => {
      request.principal = await authenticate(options.authenticators, options.failures, route, request);
    },
    handler: async (request, reply) => {
      if (route.contentType !== undefined) reply.type(route.contentType);
      const result = await route.handler({
        principal: request.principal,
        params: request.params,
        query: request.query,
        body: request.body,
        request: {
          method: request.method,
          path: request.originalUrl.split('?', 1)[0] ?? '/',
          headers: request.headers,
          setHeader: (name, value) => void reply.header(name, value),
        },
        context: writeContext(route, request, options),
      });
      return reply
        .code(route.status)
        .header('cache-control', route.cacheControl ?? 'no-store')
        .send(route.status === 204 ? undefined : result);
    },
    ...(route.cacheControl === undefined ? {} : { onSend: addETag }),
  });
}

/** RFC 9110 section 8.8.3: who keeps an answer can ask whether it is still the same, and gets 304 without it. */
async function addETag(request: FastifyRequest, reply: FastifyReply, payload: unknown): Promise<unknown> {
  if (reply.statusCode !== 200 || typeof payload !== 'string') return payload;
  const etag = `"${sha256(payload).toString('base64url')}"`;
  reply.header('etag', etag);
  const known = request.headers['if-none-match']?.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  if (!known?.some((tag) => tag === etag || tag === '*')) return payload;
  reply.code(304).removeHeader('content-type');
  return null;
}

/** Counted by principal, or by address where there is none. */
function rateLimitOf(route: Route): RateLimitOptions {
  return {
    max: rateLimits[route.limit],
    timeWindow: '1 minute',
    hook: 'preValidation',
    keyGenerator: (request) => callerOf(route, request),
    errorResponseBuilder: (_request, context) =>
      new AppError('rate_limited', `Too many requests for ${route.id}; try again in ${context.after}`),
  };
}

function callerOf(route: Route, { principal, clientAddress }: FastifyRequest): string {
  return `${route.id} ${principal ? actorOf(principal).id : addressBlock(clientAddress)}`;
}

/** As the other limits, with the same headers, and for all processes together. */
function countShared(counts: SharedCounts, route: Route, limit: SharedLimit) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const { isWithin, left, endsInSeconds } = await counts.take(callerOf(route, request), limit);
    void reply.headers({
      'x-ratelimit-limit': limit.max,
      'x-ratelimit-remaining': left,
      'x-ratelimit-reset': endsInSeconds,
    });
    if (isWithin) return;
    throw new AppError(
      'rate_limited',
      `Too many requests for ${route.id}; try again in ${endsInSeconds} seconds`,
      { retryAfterSeconds: endsInSeconds },
    );
  };
}

function writeContext(route: Route, request: FastifyRequest, options: ControlServerOptions): WriteContext {
  const { principal } = request;
  const key = request.headers['idempotency-key'];
  if (key !== undefined && (typeof key !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(key))) {
    throw new AppError('invalid_request', 'Idempotency-Key must be 1 to 255 visible ASCII characters');
  }
  const content = { params: request.params, query: request.query, body: request.body ?? null };
  return {
    db: options.db,
    clock: options.clock,
    box: options.box,
    actor: actorOf(principal),
    scope: principal && 'environmentId' in principal ? principal.environmentId : 'instance',
    requestId: request.id,
    clientAddress: request.clientAddress,
    // Anonymous callers share one actor: a key of one must never give the answer of another.
    ...(key !== undefined && principal
      ? { idempotency: { key, operation: route.id, fingerprint: sha256(canonicalJson(content)) } }
      : {}),
  };
}

/** A POST without a body means `{}`, with or without a content type. */
function acceptEmptyJson(app: FastifyInstance): void {
  const read = createJsonReader(app);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'string' },
    async (_request: unknown, body: string) => read(body),
  );
  app.addHook('preValidation', async (request) => {
    if (request.method === 'POST' && request.body === undefined) request.body = {};
    refuseUnstorableText(request.params, request.query, request.body);
  });
}

function acceptForms(app: FastifyInstance): void {
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string' },
    (_request, body, done) => {
      done(null, readForm(body.toString()));
    },
  );
}

function reportErrors(app: FastifyInstance, options: ControlServerOptions): void {
  app.addHook('onSend', async (request, reply) => {
    reply.header('x-request-id', request.id);
  });
  app.setErrorHandler((error, request, reply) => sendError(reply, request, toAppError(error)));
  app.setNotFoundHandler(async (request, reply) => {
    // The slug is read from the target as it came: the rewrite has made it `/v1/{slug}`.
    const slug = /^\/api\/([a-z0-9-]{1,63})(?:\/|\?|$)/.exec(request.originalUrl)?.[1];
    const gatewayUrl = slug === undefined ? undefined : await options.findGatewayUrl(slug);
    const error = gatewayUrl
      ? new AppError(
          'not_found',
          `This is the control plane; the API is called through the gateway at ${gatewayUrl}`,
          {
            next: { url: gatewayUrl },
          },
        )
      : new AppError(
          'not_found',
          `There is no ${request.method} ${request.url.split('?', 1)[0]} here; GET /v1/openapi.json lists what is`,
          {
            next: { openapi: '/v1/openapi.json' },
          },
        );
    return sendError(reply, request, error);
  });
}

function sendError(reply: FastifyReply, request: FastifyRequest, error: AppError): FastifyReply {
  if (error.status >= 500) request.log.error({ err: error.cause ?? error }, error.code);
  const problem = renderError(error, request.url, request.id);
  return reply
    .code(problem.status)
    .headers({ ...problem.headers, 'cache-control': 'no-store' })
    .type(problem.contentType)
    .serializer(JSON.stringify)
    .send(problem.body);
}

/** One line a request. The query is left out: it may hold what only the caller should know. */
async function logRequest(request: FastifyRequest, reply: FastifyReply): Promise<void> {
  request.log.info(
    {
      method: request.method,
      path: request.url.split('?', 1)[0],
      status: reply.statusCode,
      actor: actorOf(request.principal).id,
      address: request.clientAddress,
      durationMs: Math.round(reply.elapsedTime),
    },
    'request',
  );
}
