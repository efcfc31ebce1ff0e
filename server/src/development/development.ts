import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { privateKeyToAccount } from 'viem/accounts';
import type { App } from '../app.ts';
import type { Config } from '../config.ts';
import { type DataDirectory, type EmbeddedChain, fundAccount } from '../embedded/index.ts';
import { startDemoUpstream } from './demo-upstream.ts';
import { type SeedResult, seedDevelopment } from './seed.ts';

/** What `dev.json` says: everything that a newcomer, or a test, needs to use this instance. */
export interface DevelopmentInfo {
  api_url: string;
  gateway_url: string;
  rpc_url: string;
  console_url: string;
  api_key: string;
  organisation_id: string;
  environment_id: string;
  wallet_address: string;
  /** A private key that holds test USDC, for stock clients. */
  faucet_key: string;
  demo_url: string;
}

const fileName = 'dev.json';
/** A hundred dollars of test money each, and some test ether for whoever sends transactions of their own. */
const startingFunds = { tokenAtomic: 100_000_000n, wei: 10n ** 18n };

/** Makes the instance usable by a newcomer: seeds it, funds its accounts, starts the demo's upstream and writes `dev.json`. */
export async function setUpDevelopment(
  app: App,
  config: Config,
  local: { directory: DataDirectory; rpcUrl: string; chain: EmbeddedChain | undefined; now: () => Date },
): Promise<{ info: DevelopmentInfo; close(): Promise<void> }> {
  const { directory } = local;
  const upstream = await startDemoUpstream(local.now);
  const faucetKey = await privateKey(directory, 'faucet.key');
  const earlier = await readEarlier(directory);
  const seed = await seedDevelopment(app.systemContext(), {
    earlierApiKey: earlier?.api_key,
    demoUpstreamUrl: upstream.url,
    demoSellerKey: await privateKey(directory, 'demo-seller.key'),
  });
  if (local.chain && (local.chain.fresh || !earlier)) await fund(local.chain, seed, faucetKey);

  const { organisationId, id: environmentId } = seed.environment;
  if (config.developmentPrincipal) {
    app.setDevelopmentPrincipal({ kind: 'person', development: true, organisationId, environmentId });
  }
  const info: DevelopmentInfo = {
    api_url: config.publicUrl,
    gateway_url: config.gatewayUrl,
    rpc_url: local.rpcUrl,
    console_url: `${config.publicUrl}/`,
    api_key: seed.apiKey,
    organisation_id: organisationId,
    environment_id: environmentId,
    wallet_address: seed.wallet.address,
    faucet_key: faucetKey,
    demo_url: `${config.gatewayUrl}/api/demo/sun`,
  };
  await directory.writeJson(fileName, info);
  return { info, close: () => upstream.close() };
}

/** Only at the first start, or on a chain that has forgotten: what was spent stays spent. */
async function fund(chain: EmbeddedChain, seed: SeedResult, faucetKey: `0x${string}`): Promise<void> {
  const accounts = [seed.wallet.address, privateKeyToAccount(faucetKey).address];
  for (const address of accounts) await fundAccount(chain.url, { address, ...startingFunds });
  await chain.save();
}

async function privateKey(directory: DataDirectory, name: string): Promise<`0x${string}`> {
  return `0x${await directory.getOrCreateSecret(name, 32)}`;
}

async function readEarlier(directory: DataDirectory): Promise<DevelopmentInfo | undefined> {
  try {
    return JSON.parse(await readFile(join(directory.path, fileName), 'utf8')) as DevelopmentInfo;
  } catch {
    // None yet, or one that somebody has edited: it is written anew.
    return undefined;
  }
}
