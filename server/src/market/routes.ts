import type { Static } from 'typebox';
import { getAddress } from 'viem';
import { defineRoute, type Route } from '../http/index.ts';
import { AppError } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';
import { formatUsdc, parseUsdcPrice } from '../kernel/money.ts';
import { createEndpoint } from './create-endpoint.ts';
import { createServer } from './create-server.ts';
import { findServer, listServers } from './market.sql.ts';
import { publishServer } from './publish-server.ts';
import {
  CreateEndpointBody,
  CreateServerBody,
  EndpointView,
  NoFields,
  PageQuery,
  ServerList,
  ServerParams,
  ServerView,
} from './schemas.ts';
import type { Endpoint, MarketServer } from './server.ts';
import { parseBaseUrl, parsePath } from './upstream-url.ts';

export interface MarketDeps {
  gatewayUrl: string;
  /** Whether an upstream at this address may be called. */
  mayDial(address: string): boolean;
}

/** One cent: below it a settlement on chain costs more than it brings. */
const priceMin = 10_000n;

const management = { auth: ['api_key', 'person'], limit: 'write' } as const;

export function marketRoutes(deps: MarketDeps): Route[] {
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
        const server = await createServer(context, principal.environmentId, {
          name: body.name,
          slug: body.slug ?? null,
          description: body.description ?? '',
          baseUrl: parseBaseUrl(body.base_url, deps.mayDial),
          payTo: body.pay_to === undefined ? null : getAddress(body.pay_to),
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
        const server = await findServer(context.db, principal.environmentId, params.serverId);
        if (!server) throw new AppError('not_found', 'There is no such server');
        return presentServer(server, deps);
      },
    }),

    defineRoute({
      ...management,
      id: 'endpoint.create',
      summary: 'Add a path to a server, with its price',
      method: 'POST',
      path: '/v1/servers/:serverId/endpoints',
      scopes: ['servers:write'],
      status: 201,
      schema: { params: ServerParams, body: CreateEndpointBody, response: EndpointView },
      errors: ['conflict'],
      handler: async ({ principal, params, body, context }) => {
        const { environmentId } = principal;
        const server = await findServer(context.db, environmentId, params.serverId);
        if (!server) throw new AppError('not_found', 'There is no such server');
        const endpoint = await createEndpoint(context, {
          environmentId,
          serverId: server.id,
          endpoint: readEndpoint(body),
        });
        return presentEndpoint(endpoint, server, deps);
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
      handler: async ({ principal, params, context }) =>
        presentServer(await publishServer(context, principal.environmentId, params.serverId), deps),
    }),
  ];
}

function readEndpoint(body: Static<typeof CreateEndpointBody>) {
  const publicPath = parsePath(body.public_path, 'public_path', { query: false });
  const price = parseUsdcPrice(body.price, 'price');
  if (price > 0n && price < priceMin)
    throw new AppError('invalid_request', 'price must be at least "$0.01", or "$0" for a free path');
  return {
    publicPath,
    privatePath: parsePath(body.private_path ?? publicPath, 'private_path', { query: true }),
    methods: body.methods ?? null,
    price,
    description: body.description ?? '',
  };
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

function presentEndpoint(
  endpoint: Endpoint,
  server: MarketServer,
  deps: MarketDeps,
): Static<typeof EndpointView> {
  return {
    id: endpoint.id,
    endpoint_id: endpoint.id,
    server_id: endpoint.serverId,
    public_path: endpoint.publicPath,
    methods: endpoint.methods ? [...endpoint.methods] : null,
    price: formatUsdc(endpoint.price),
    amount: endpoint.price.toString(),
    description: endpoint.description,
    enabled: endpoint.enabled,
    url: `${deps.gatewayUrl}/api/${server.slug}${endpoint.publicPath}`,
  };
}
