import type { Sql } from '../db/index.ts';
import type { Network } from '../x402/index.ts';
import { findWallet } from '../wallet/index.ts';
import { findServerBySlug } from './market.sql.ts';
import type { MarketServer } from './server.ts';

/** Who is paid for a server's calls on a network; nothing where neither it nor its environment has an address there. */
export async function findPayTo(
  sql: Sql,
  server: MarketServer,
  network: Network,
): Promise<string | undefined> {
  if (server.payTo !== null) return server.payTo;
  return (await findWallet(sql, server.environmentId, network.id))?.address;
}

/** Who is paid for what is sold at this URL, where it is one of this gateway's published servers. */
export async function findPayeeOfResource(
  sql: Sql,
  gatewayUrl: string,
  resource: URL,
  network: Network,
): Promise<string | undefined> {
  if (resource.origin !== new URL(gatewayUrl).origin) return undefined;
  const slug = /^\/api\/([a-z0-9-]+)(?:\/|$)/.exec(resource.pathname)?.[1];
  const server = slug === undefined ? undefined : await findServerBySlug(sql, slug);
  return server?.state === 'published' ? findPayTo(sql, server, network) : undefined;
}
