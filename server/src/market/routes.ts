import type { Static } from 'typebox';
import { type Address, getAddress } from 'viem';
import { defineRoute, type Route } from '../http/index.ts';
import { AppError } from '../kernel/errors.ts';
import type { EnvironmentId } from '../kernel/ids.ts';
import { limits } from '../kernel/limits.ts';
import { createServer } from './create-server.ts';
import { endpointRoutes } from './endpoint-routes.ts';
import { getServer, listServers } from './market.sql.ts';
import { publishServer } from './publish-server.ts';
import { CreateServerBody, NoFields, PageQuery, ServerList, ServerParams, ServerView } from './schemas.ts';
import type { MarketServer } from './server.ts';
import { parseBaseUrl } from './upstream-url.ts';

/** Where the gateway answers, and what it may call. */
export interface MarketDeps {
  gatewayUrl: string;
  /** Whether an upstream at this address may be called. */
  mayDial(address: string): boolean;
  /** Whether the token of the environment's network takes this payee. */
  canBePaid(environmentId: EnvironmentId, address: Address): Promise<boolean>;
}

const management = { auth: ['api_key', 'person'], limit: 'write' } as const;

/** The servers of an environment, from draft to published, and their endpoints. */
export function marketRoutes(deps: MarketDeps): Route[] {
  return [...serverRoutes(deps), ...endpointRoutes(deps)];
}

function serverRoutes(deps: MarketDeps): Route[] {
  return [
    defineRoute({
      ...management,
      id: 'server.create',
      summary: 'Add an API to sell, as a draft',
      method: 'POST',
      path: '/v1/servers',
      scopes: ['servers:write'],
      status: 201,
      schema: { body: CreateServerBody, response: ServerView },
      errors: ['conflict'],
      handler: async ({ principal, body, context }) => {
        const payTo = body.pay_to === undefined ? null : getAddress(body.pay_to);
        if (payTo !== null && !(await deps.canBePaid(principal.environmentId, payTo)))
          throw new AppError(
            'invalid_request',
            'pay_to must be an address that the token pays: not the zero address, not the token itself',
          );
        const server = await createServer(context, principal.environmentId, {
          name: body.name,
          slug: body.slug ?? null,
          description: body.description ?? '',
          baseUrl: parseBaseUrl(body.base_url, deps.mayDial),
          payTo,
        });
        return presentServer(server, deps);
      },
    }),

    defineRoute({
      ...management,
      id: 'server.list',
      summary: "The environment's servers, newest first",
      method: 'GET',
      path: '/v1/servers',
      scopes: ['servers:read'],
      limit: 'read',
      status: 200,
      schema: { query: PageQuery, response: ServerList },
      errors: [],
      handler: async ({ principal, query, context }) => {
        const limit = query.limit ?? limits.pageSizeDefault;
        const { environmentId } = principal;
        const rows = await listServers(context.db, {
          environmentId,
          before: query.cursor ?? null,
          limit: limit + 1,
        });
        const page = rows.slice(0, limit);
        const has_more = rows.length > limit;
        return {
          data: page.map((server) => presentServer(server, deps)),
          has_more,
          next_cursor: has_more ? (page.at(-1)?.id ?? null) : null,
        };
      },
    }),

    defineRoute({
      ...management,
      id: 'server.get',
      summary: 'A server',
      method: 'GET',
      path: '/v1/servers/:serverId',
      scopes: ['servers:read'],
      limit: 'read',
      status: 200,
      schema: { params: ServerParams, response: ServerView },
      errors: [],
      handler: async ({ principal, params, context }) => {
        const server = await getServer(context.db, principal.environmentId, params.serverId);
        return presentServer(server, deps);
      },
    }),

    defineRoute({
      ...management,
      id: 'server.publish',
      summary: 'Put a server on the gateway',
      method: 'POST',
      path: '/v1/servers/:serverId/publish',
      scopes: ['servers:write'],
      status: 200,
      schema: { params: ServerParams, body: NoFields, response: ServerView },
      errors: ['conflict'],
      handler: async ({ principal, params, context }) => {
        const { environmentId } = principal;
        const { payTo } = await getServer(context.db, environmentId, params.serverId);
        if (payTo !== null && !(await deps.canBePaid(environmentId, getAddress(payTo))))
          throw new AppError(
            'conflict',
            'The token refuses transfers to the pay_to of this server: no call could be paid',
          );
        return presentServer(await publishServer(context, environmentId, params.serverId), deps);
      },
    }),
  ];
}

function presentServer(server: MarketServer, deps: MarketDeps): Static<typeof ServerView> {
  return {
    id: server.id,
    server_id: server.id,
    slug: server.slug,
    name: server.name,
    description: server.description,
    base_url: server.baseUrl,
    pay_to: server.payTo,
    state: server.state,
    url: `${deps.gatewayUrl}/api/${server.slug}`,
  };
}
