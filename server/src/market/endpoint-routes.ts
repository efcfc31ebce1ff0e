import type { Static } from 'typebox';
import { defineRoute, type Route } from '../http/index.ts';
import { AppError } from '../kernel/errors.ts';
import { formatUsdc, parseUsdcPrice } from '../kernel/money.ts';
import { createEndpoint } from './create-endpoint.ts';
import { getServer } from './market.sql.ts';
import { CreateEndpointBody, EndpointView, ServerParams } from './schemas.ts';
import type { Endpoint, MarketServer } from './server.ts';
import { parsePath } from './upstream-url.ts';

/** One cent: below it a settlement on chain costs more than it brings. */
const priceMin = 10_000n;

/** The endpoints of a server. */
export function endpointRoutes(deps: { gatewayUrl: string }): Route[] {
  return [
    defineRoute({
      auth: ['api_key', 'person'],
      limit: 'write',
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
        const server = await getServer(context.db, environmentId, params.serverId);
        const endpoint = await createEndpoint(context, {
          environmentId,
          serverId: server.id,
          endpoint: readEndpoint(body),
        });
        return presentEndpoint(endpoint, server, deps);
      },
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
    settlement: body.settlement ?? 'after_success',
    description: body.description ?? '',
  };
}

function presentEndpoint(
  endpoint: Endpoint,
  server: MarketServer,
  deps: { gatewayUrl: string },
): Static<typeof EndpointView> {
  return {
    id: endpoint.id,
    endpoint_id: endpoint.id,
    server_id: endpoint.serverId,
    public_path: endpoint.publicPath,
    methods: endpoint.methods ? [...endpoint.methods] : null,
    price: formatUsdc(endpoint.price),
    amount: endpoint.price.toString(),
    settlement: endpoint.settlement,
    description: endpoint.description,
    enabled: endpoint.enabled,
    url: `${deps.gatewayUrl}/api/${server.slug}${endpoint.publicPath}`,
  };
}
