import type { Address } from 'viem';
import type { Database } from '../db/index.ts';
import { findEnvironment } from '../accounts/index.ts';
import type { SecretBox } from '../kernel/crypto.ts';
import {
  type Endpoint,
  findEndpoints,
  findPayTo,
  findServerBySlug,
  type MarketServer,
} from '../market/index.ts';
import { checksumAddress, creditCurrency, type Network, networks } from '../x402/index.ts';

/** A server as the gateway calls it: its paths with their secrets opened, and who is paid. */
export interface PublishedServer {
  server: MarketServer;
  endpoints: readonly Endpoint[];
  network: Network;
  /** Checksummed. Absent where nobody can be paid for it: then its priced paths can't be called. */
  payTo: Address | undefined;
  /** What it takes credits in, as well. Absent where an address outside is paid: credits are of environments here. */
  creditCurrency: string | undefined;
}

/** The published servers as this process knows them, at most a second old. */
export interface PublishedServers {
  find(slug: string): Promise<PublishedServer | undefined>;
  /** Forgets what is known of a slug, or of all where none is named. */
  forget(slug: string): void;
}

/** A change that no notification told of is seen after this long. */
const freshMs = 1_000;
/** Slugs that anyone may ask for, existing or not. */
const slugsMax = 10_000;

/** Keeps servers in memory between calls; loads each slug once however many calls wait for it. */
export function createPublishedServers(deps: { db: Database; box: SecretBox }): PublishedServers {
  const entries = new Map<string, { loadedAt: number; server: Promise<PublishedServer | undefined> }>();

  return {
    find(slug) {
      const known = entries.get(slug);
      if (known && performance.now() - known.loadedAt < freshMs) return known.server;
      if (entries.size >= slugsMax) entries.clear();
      const server = load(deps, slug);
      entries.set(slug, { loadedAt: performance.now(), server });
      // A failed load isn't kept: the next call tries again.
      server.catch(() => entries.delete(slug));
      return server;
    },
    forget(slug) {
      if (slug === '') entries.clear();
      else entries.delete(slug);
    },
  };
}

async function load(
  deps: { db: Database; box: SecretBox },
  slug: string,
): Promise<PublishedServer | undefined> {
  const server = await findServerBySlug(deps.db, slug);
  if (server?.state !== 'published') return undefined;
  const environment = await findEnvironment(deps.db, server.environmentId);
  const kind = environment?.kind ?? 'sandbox';
  const network = networks[kind];
  const [endpoints, payTo] = await Promise.all([
    findEndpoints(deps.db, server, deps.box),
    findPayTo(deps.db, server, network),
  ]);
  const currency = server.payTo === null ? creditCurrency(kind) : undefined;
  return {
    server,
    endpoints,
    network,
    payTo: payTo === undefined ? undefined : checksumAddress(payTo),
    creditCurrency: currency,
  };
}
