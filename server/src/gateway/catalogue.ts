import { formatUsdc } from '../kernel/money.ts';
import type { PublishedServer } from './published-servers.ts';

/** What `GET /api/{slug}` says to an agent that looks for something to call. Names no upstream and no private path. */
export function describeServer(published: PublishedServer, gatewayUrl: string): Record<string, unknown> {
  const { server, endpoints, network } = published;
  return {
    slug: server.slug,
    name: server.name,
    description: server.description,
    paymentRequired: endpoints.some(({ enabled, price }) => enabled && price > 0n),
    networks: [network.id],
    endpoints: endpoints.map((endpoint) => ({
      path: endpoint.publicPath,
      url: `${gatewayUrl}/api/${server.slug}${endpoint.publicPath}`,
      method: endpoint.methods?.join(', ') ?? 'ANY',
      description: endpoint.description,
      price: formatUsdc(endpoint.price),
      currency: network.asset.currency,
      enabled: endpoint.enabled,
    })),
  };
}
