import type { Static, TSchema } from 'typebox';
import type { WriteContext } from '../../db/index.ts';
import { apiKeyHeaders, defineRoute, type Principal, type Route } from '../../http/index.ts';
import { AppError, type ErrorCode } from '../../kernel/errors.ts';
import type { OAuthRequest } from './authorization-server.ts';
import { grantClientCredentials } from './grant-client-credentials.ts';
import { introspectToken } from './introspect-token.ts';
import { describeResource, describeServer } from './metadata.ts';
import { authenticateCaller, type Caller } from './oauth-caller.ts';
import type { OAuth } from './open-oauth.ts';
import { grantRefresh } from './refresh-grant.ts';
import { resourceRoutes } from './resource-routes.ts';
import { revokeToken } from './revoke-token.ts';
import { IntrospectionAnswer, Metadata, TokenAnswer, TokenBody, TokenParameter } from './schemas.ts';

/** What the routes are given: the server, and how an API key is looked up. */
export interface OAuthRouteDeps {
  oauth: OAuth;
  issuer: string;
  findApiKey(key: string): Promise<Principal | undefined>;
}

const endpoint = {
  method: 'POST',
  auth: [],
  scopes: [],
  limit: 'token',
  status: 200,
  form: true,
  unknownKeys: 'ignored',
} as const;
const grantErrors: ErrorCode[] = [
  'invalid_client',
  'invalid_dpop_proof',
  'invalid_grant',
  'invalid_scope',
  'invalid_target',
  'unavailable',
  'unsupported_grant_type',
  'use_dpop_nonce',
];

/** The token endpoint and what belongs to it, metadata, and the registry of resources. */
export function oauthRoutes(deps: OAuthRouteDeps): Route[] {
  return [
    ...grantRoutes(deps),
    ...tokenRoutes(deps),
    ...metadataRoutes(deps),
    ...resourceRoutes(deps.issuer),
  ];
}

function grantRoutes({ oauth }: OAuthRouteDeps): Route[] {
  return [
    defineRoute({
      ...endpoint,
      id: 'oauth.token',
      summary: 'Get an access token (RFC 6749): client_credentials or refresh_token',
      path: '/oauth/token',
      direct: true,
      schema: { body: TokenBody, response: TokenAnswer },
      errors: grantErrors,
      handler: async (call) => {
        const body = readParameters(call);
        const request = readRequest(call);
        switch (body.grant_type) {
          case 'client_credentials':
            return grantClientCredentials(oauth.server, request, body);
          case 'refresh_token':
            return grantRefresh(oauth.server, request, body, { bare: false });
          case undefined:
            throw new AppError('invalid_request', 'grant_type is missing');
          default:
            throw new AppError(
              'unsupported_grant_type',
              'grant_type must be client_credentials or refresh_token',
            );
        }
      },
    }),

    defineRoute({
      ...endpoint,
      id: 'oauth.refresh',
      summary: 'Get a fresh access token for a refresh token alone',
      path: '/oauth/refresh',
      schema: { body: TokenBody, response: TokenAnswer },
      errors: grantErrors,
      handler: async (call) => {
        const body = readParameters(call);
        if (body.grant_type !== undefined && body.grant_type !== 'refresh_token')
          throw new AppError('unsupported_grant_type', 'grant_type must be refresh_token here');
        return grantRefresh(oauth.server, readRequest(call), body, { bare: true });
      },
    }),

    defineRoute({
      ...endpoint,
      id: 'oauth.authorize',
      summary: 'There is no grant by redirect: says so',
      method: 'GET',
      path: '/oauth/authorize',
      limit: 'open',
      schema: { response: Metadata },
      errors: ['unsupported_response_type'],
      handler: () =>
        Promise.reject(
          new AppError(
            'unsupported_response_type',
            'Agents get tokens at /oauth/token with their own credentials; there is no grant by redirect',
          ),
        ),
    }),
  ];
}

function tokenRoutes(deps: OAuthRouteDeps): Route[] {
  return [
    callerRoute(deps, {
      id: 'oauth.introspect',
      summary: 'Ask what is true of a token now (RFC 7662), as its client or with an API key',
      path: '/oauth/introspect',
      response: IntrospectionAnswer,
      scope: 'agents:read',
      handle: ({ caller, token }) => introspectToken(deps.oauth.server, caller, token),
    }),

    callerRoute(deps, {
      id: 'oauth.revoke',
      summary: 'End a token (RFC 7009), as its client or with an API key',
      path: '/oauth/revoke',
      response: Metadata,
      scope: 'agents:write',
      handle: async ({ caller, token, context }) => {
        const actor =
          caller.kind === 'client'
            ? { kind: 'agent' as const, id: caller.agentId }
            : { kind: 'api_key' as const, id: caller.apiKeyId };
        await revokeToken(deps.oauth.server, { ...context, actor }, caller, token);
        return {};
      },
    }),
  ];
}

/** A route about a token, for its client or for an API key with that scope. */
function callerRoute<Response extends TSchema>(
  { oauth, findApiKey }: OAuthRouteDeps,
  given: {
    id: string;
    summary: string;
    path: `/${string}`;
    response: Response;
    scope: string;
    handle(call: { caller: Caller; token: string; context: WriteContext }): Promise<Static<Response>>;
  },
): Route {
  const { id, summary, path, response, scope, handle } = given;
  return defineRoute({
    ...endpoint,
    id,
    summary,
    path,
    schema: { body: TokenParameter, response },
    errors: ['forbidden', 'invalid_client', 'unavailable'],
    handler: async (call) => {
      const body = readParameters(call);
      const caller = await authenticateCaller(oauth.server, findApiKey, readRequest(call), body, scope);
      return handle({ caller, token: demandToken(body), context: call.context });
    },
  });
}

function metadataRoutes({ issuer }: OAuthRouteDeps): Route[] {
  const documents = [
    ['oauth.metadata', 'This authorization server (RFC 8414)', '/.well-known/oauth-authorization-server'],
    ['oauth.openid', 'The same, where OpenID Connect clients look', '/.well-known/openid-configuration'],
    ['oauth.resource', 'This API as a resource (RFC 9728)', '/.well-known/oauth-protected-resource'],
  ] as const;
  return documents.map(([id, summary, path]) =>
    defineRoute({
      id,
      summary,
      method: 'GET',
      path,
      auth: [],
      scopes: [],
      limit: 'open',
      status: 200,
      schema: { response: Metadata },
      errors: [],
      cacheControl: 'public, max-age=300',
      handler: async () => (id === 'oauth.resource' ? describeResource(issuer) : describeServer(issuer)),
    }),
  );
}

interface OAuthCall<Body> {
  body: Body;
  request: {
    method: string;
    path: string;
    headers: Record<string, string | string[] | undefined>;
    setHeader(name: string, value: string): void;
  };
  context: WriteContext;
}

/** RFC 6749 section 3.2: a parameter without a value counts as left out, and none comes twice (`resource` may, RFC 8707). */
function readParameters<Body extends object>({ body, request }: OAuthCall<Body>): Body {
  const given: Record<string, unknown> = {};
  for (const name of Object.keys(body)) {
    const value = (body as Record<string, unknown>)[name];
    if (Array.isArray(value) && name !== 'resource' && isForm(request))
      throw new AppError('invalid_request', `${name} is there more than once`);
    if (value !== '') given[name] = value;
  }
  return given as Body;
}

function isForm({ headers }: OAuthCall<object>['request']): boolean {
  return /^application\/x-www-form-urlencoded/i.test(String(headers['content-type']));
}

function readRequest({
  request,
  context,
}: OAuthCall<object>): OAuthRequest & { apiKeys: string[]; context: WriteContext } {
  const { actor, requestId, clientAddress } = context;
  return {
    ...request,
    authorization: textOf(request.headers['authorization']),
    dpop: textOf(request.headers['dpop']),
    apiKeys: apiKeyHeaders.flatMap((name) => textOf(request.headers[name]) ?? []),
    origin: { actor, requestId, clientAddress },
    context,
  };
}

function textOf(header: string | string[] | undefined): string | undefined {
  return typeof header === 'string' ? header : undefined;
}

function demandToken({ token }: { token?: string }): string {
  if (token === undefined) throw new AppError('invalid_request', 'token is missing');
  return token;
}
