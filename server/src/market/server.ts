import type { EndpointId, EnvironmentId, ServerId } from '../kernel/ids.ts';
import type { SettlementMode } from '../x402/index.ts';

/** A monetised API. Nobody finds it before it is published. */
export interface MarketServer {
  environmentId: EnvironmentId;
  id: ServerId;
  slug: string;
  name: string;
  description: string;
  /** Scheme, host and port of the upstream, with a path prefix or none; never with a trailing slash. */
  baseUrl: string;
  /** An address outside (direct), or nothing: the environment's own wallet (hosted). */
  payTo: string | null;
  state: 'draft' | 'published';
}

/** One priced path of a server. */
export interface Endpoint {
  id: EndpointId;
  serverId: ServerId;
  publicPath: string;
  /** What the upstream receives instead; may carry secrets in its query. */
  privatePath: string;
  /** `null`: any. */
  methods: readonly string[] | null;
  /** Atomic USDC; 0 is free. */
  price: bigint;
  settlement: SettlementMode;
  description: string;
  enabled: boolean;
}

/** A slug is a path segment of the gateway and of nothing else: our own words are kept. */
const reservedSlugs = new Set([
  'access',
  'admin',
  'agent',
  'agents',
  'api',
  'api-keys',
  'approvals',
  'audit-logs',
  'auth',
  'console',
  'delegations',
  'docs',
  'endpoints',
  'facilitator',
  'health',
  'mandates',
  'nior',
  'oauth',
  'orgs',
  'payment-intents',
  'payment-links',
  'payments',
  'payouts',
  'proofs',
  'refresh',
  'register',
  'resources',
  'servers',
  'trust',
  'v1',
  'wallets',
  'webhooks',
]);

export function isSlug(text: string): boolean {
  return /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text) && !reservedSlugs.has(text);
}

/** A slug for whoever gave none: from the name, as far as it has letters and digits. */
export function slugOf(name: string): string {
  // Accents are letters of their own once decomposed, and would part the word that they stand in.
  const letters = name.normalize('NFKD').replace(/\p{M}/gu, '').toLowerCase();
  const words = letters.match(/[a-z0-9]+/g) ?? [];
  return words.join('-').slice(0, 63).replace(/-$/, '');
}
