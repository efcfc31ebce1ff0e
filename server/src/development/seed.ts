import { privateKeyToAccount } from 'viem/accounts';
import {
  createApiKey,
  createOrganisation,
  type Environment,
  findApiKey,
  findFirstEnvironment,
} from '../accounts/index.ts';
import type { Database, WriteContext } from '../db/index.ts';
import { apiScopes } from '../http/index.ts';
import {
  createEndpoint,
  createServer,
  findServerBySlug,
  moveServer,
  publishServer,
} from '../market/index.ts';
import { createWallet, findWallet, issueCredits, type Wallet } from '../wallet/index.ts';
import { networks } from '../x402/index.ts';

/** What development begins with; the API key is the earlier one, where that still works. */
export interface SeedResult {
  environment: Environment;
  apiKey: string;
  wallet: Wallet;
}

const demoSlug = 'demo';
/** A hundred dollars of test credits: given once, what is spent stays spent. */
const startingCredits = 100_000_000n;
/** One cent, in the spelling that sellers use. */
const demoPrice = 10_000n;

/**
 * Makes what a newcomer needs, or finds it where an earlier start made it: an organisation with its sandbox, a key with every
 * scope, a wallet, and the demo API. Each step may be the last before a crash; the next start goes on from there.
 */
export async function seedDevelopment(
  context: WriteContext,
  args: { earlierApiKey: string | undefined; demoUpstreamUrl: string; demoSellerKey: `0x${string}` },
): Promise<SeedResult> {
  const environment =
    (await findFirstEnvironment(context.db)) ?? (await createOrganisation(context, 'Development'));
  const scoped = { ...context, scope: environment.id };
  const apiKey = await getApiKey(scoped, environment, args.earlierApiKey);
  const network = networks[environment.kind];
  const wallet =
    (await findWallet(context.db, environment.id, network.id)) ??
    (await createWallet(scoped, environment.id, network));
  await issueCredits(scoped, environment, {
    amount: startingCredits,
    key: `${environment.id}/development`,
    reason: 'to begin with',
  });
  await ensureDemoServer(scoped, environment, args);
  return { environment, apiKey, wallet };
}

/** The key of the last start, if it is still good and has every scope: only its holder, `dev.json`, knows its text. */
async function getApiKey(
  context: WriteContext,
  environment: Environment,
  earlier: string | undefined,
): Promise<string> {
  const known = earlier === undefined ? undefined : await findApiKey(context.db, earlier);
  const isWhole =
    known?.environmentId === environment.id && apiScopes.every((scope) => known.scopes.includes(scope));
  if (earlier !== undefined && isWhole) return earlier;
  const { key } = await createApiKey(context, { environment, name: 'Development', scopes: apiScopes });
  return key;
}

async function ensureDemoServer(
  context: WriteContext & { db: Database },
  environment: Environment,
  args: { demoUpstreamUrl: string; demoSellerKey: `0x${string}` },
): Promise<void> {
  const existing = await findServerBySlug(context.db, demoSlug);
  if (existing?.state === 'published') return moveServer(context, existing, args.demoUpstreamUrl);
  const server =
    existing ??
    (await createServer(context, environment.id, {
      name: 'Sun times',
      slug: demoSlug,
      description: 'Sunrise and sunset, computed. The demo API of this instance.',
      baseUrl: args.demoUpstreamUrl,
      // Somebody else than the wallet that pays, so that the demo's balances move.
      payTo: privateKeyToAccount(args.demoSellerKey).address,
    }));
  const endpoints = [
    {
      publicPath: '/sun',
      privatePath: '/v1/sun',
      price: demoPrice,
      description: 'Sunrise and sunset: ?place=quito&date=2026-06-21',
    },
    {
      publicPath: '/places',
      privatePath: '/v1/places',
      price: 0n,
      description: 'The places that /sun knows',
    },
  ];
  for (const endpoint of endpoints) {
    await createEndpoint(context, {
      environmentId: environment.id,
      serverId: server.id,
      endpoint: { ...endpoint, methods: ['GET'], settlement: 'after_success' },
    }).catch(ignoreConflict);
  }
  await moveServer(context, server, args.demoUpstreamUrl);
  await publishServer(context, environment.id, server.id);
}

/** An endpoint that an interrupted start had added already. */
function ignoreConflict(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'conflict')) throw error;
}
