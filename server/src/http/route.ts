import type { IncomingHttpHeaders } from 'node:http';
import type { Static, TObject, TSchema } from 'typebox';
import type { SharedLimit, WriteContext } from '../db/index.ts';
import type { ErrorCode } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';
import type { ApiScope, Principal, PrincipalKind, PrincipalOf } from './principal.ts';

/**
 * Requests a minute, counted by principal, or by address where there is none. Those in `sharedLimits` hold for all processes together; the
 * others bound what one process has to bear.
 */
export const rateLimits = {
  /** Health and public keys: cheap to answer, and asked for by machines. */
  open: 6_000,
  /** Creates a row for anyone who asks. */
  registration: 60,
  /** Compares a secret. */
  credential: 300,
  /** Tokens for clients that show who they are: a fleet may stand behind one address, so that failures are counted, and nothing else. */
  token: Number.POSITIVE_INFINITY,
  /** Checks a signature and asks a chain, for anyone: a seller's back end asks once for each paid call. */
  verification: 1_200,
  read: 3_000,
  write: 1_200,
  /** An agent's own payments: bounded by its mandate, not by us. */
  payment: 60_000,
} as const;
export type RateLimit = keyof typeof rateLimits;

/** What strangers may do, and what that leaves or tries: a registration is a row that anybody makes, and counted exactly. */
export const sharedLimits: Partial<Record<RateLimit, SharedLimit>> = {
  registration: { max: rateLimits.registration, unwritten: 0 },
  credential: { max: rateLimits.credential, unwritten: rateLimits.credential * limits.unwrittenShare },
};

export interface RouteSchema {
  params?: TObject;
  query?: TObject;
  body?: TObject;
  /** The body of a success; its status is the route's `status`. */
  response: TSchema;
}

type Shape<Schema extends TSchema | undefined> = Schema extends TSchema
  ? Static<Schema>
  : Record<string, never>;

/** The request as it was sent, for what standards put into headers. */
export interface SentRequest {
  method: string;
  /** Without the query, before a prefix is rewritten. */
  path: string;
  headers: IncomingHttpHeaders;
  /** A header of the success. */
  setHeader(name: string, value: string): void;
}

export interface Call<Kind extends PrincipalKind, Schema extends RouteSchema> {
  /** `null` only on a public route. */
  principal: [Kind] extends [never] ? null : PrincipalOf<Kind>;
  params: Shape<Schema['params']>;
  query: Shape<Schema['query']>;
  body: Shape<Schema['body']>;
  request: SentRequest;
  /** Who writes, on which environment, under which idempotency key: what `write()` needs. */
  context: WriteContext;
}

export interface RouteDefinition<Kind extends PrincipalKind, Schema extends RouteSchema> {
  /** The operation's name in audit events, OpenAPI and logs: `noun.verb`. */
  id: string;
  summary: string;
  method: 'DELETE' | 'GET' | 'PATCH' | 'POST';
  path: `/${string}`;
  /** Which principals may call it; none means anyone. */
  auth: readonly Kind[];
  /** What an API key needs, all of them. */
  scopes: readonly ApiScope[];
  limit: RateLimit;
  /** 201 for a POST that creates, 200 for an action or a read, 204 without a body for a DELETE. */
  status: 200 | 201 | 204;
  schema: Schema;
  /** The codes that its own rules can answer with, besides those that every such route has. */
  errors: readonly ErrorCode[];
  /** Standards that tell servers to ignore what they don't know. */
  unknownKeys?: 'ignored';
  /** The body may come as a form as well (`application/x-www-form-urlencoded`), a repeated field as a list. */
  form?: true;
  /** Called so often that its plain requests are answered without Fastify: see `answerDirectly`, which also says what such a route must be. */
  direct?: true;
  /** `Cache-Control` of the success; `no-store` unless it says otherwise. What may be kept has an ETag as well. */
  cacheControl?: string;
  /** The media type of a success that is a text; JSON unless it says otherwise. */
  contentType?: string;
  handler: (call: Call<Kind, Schema>) => Promise<Static<Schema['response']>>;
}

/** A route as the server sees it, its types checked where it was defined. */
export interface Route extends Omit<RouteDefinition<PrincipalKind, RouteSchema>, 'handler'> {
  handler: (call: {
    principal: Principal | null;
    params: unknown;
    query: unknown;
    body: unknown;
    request: SentRequest;
    context: WriteContext;
  }) => Promise<unknown>;
}

/** A route is data: routing, validation, OpenAPI, rate limit, audit name and the SDK's types come from it. */
export function defineRoute<Schema extends RouteSchema, Kind extends PrincipalKind = never>(
  definition: RouteDefinition<Kind, Schema>,
): Route {
  return definition as unknown as Route;
}
