import packageJson from '../package.json' with { type: 'json' };
import { findApiKey, findEnvironment } from './accounts/index.ts';
import { readConfig } from './config.ts';
import type { Services } from './services.ts';
import type { Database } from './db/index.ts';
import { evidenceRoutes } from './evidence/index.ts';
import { healthRoutes, openApiRoute, type Route } from './http/index.ts';
import { identityRoutes } from './identity/index.ts';
import { assert } from './kernel/assert.ts';
import type { EnvironmentId } from './kernel/ids.ts';
import { findPayeeOfResource, marketRoutes } from './market/index.ts';
import { walletRoutes } from './wallet/index.ts';
import {
  canBePaid,
  facilitatorRoutes,
  type Network,
  networks,
  type PaymentLane,
  paymentRoutes,
  relayerRoutes,
} from './x402/index.ts';

/** The whole API as data. Nothing is asked of the services before a handler runs. */
export function createRoutes(
  services: Pick<
    Services,
    'chains' | 'clock' | 'config' | 'db' | 'egress' | 'guessGuard' | 'keys' | 'oauth' | 'tokens' | 'usage'
  > & {
    payments: PaymentLane;
    isReady(): Promise<boolean>;
  },
): Route[] {
  const { config, db, chains, egress } = services;
  const routes = [
    ...healthRoutes(services.isReady),
    ...identityRoutes({
      ...services,
      issuer: config.publicUrl,
      findApiKey: async (text) => {
        const key = await findApiKey(db, text);
        return key && { kind: 'api_key', apiKeyId: key.id, ...key };
      },
    }),
    ...walletRoutes({
      chains,
      authorizationUrl: (mandateId) => `${config.publicUrl}/mandates/${mandateId}`,
      linkUrl: (linkId) => `${config.publicUrl}/links/${linkId}`,
      networkOf: (environmentId) => networkOf(db, environmentId),
      findPayee: (resource, network) => findPayeeOfResource(db, config.gatewayUrl, resource, network),
    }),
    ...marketRoutes({
      gatewayUrl: config.gatewayUrl,
      mayDial: (address) => egress.mayDial('upstream', address),
      canBePaid: async (environmentId, address) => {
        const { id } = await networkOf(db, environmentId);
        const chain = chains.get(id)?.chain;
        return chain === undefined || canBePaid(chain, address);
      },
    }),
    ...relayerRoutes({ chains }),
    ...paymentRoutes(),
    ...facilitatorRoutes({ ...services, settlementsPerDay: config.facilitatorSettlementsPerDay }),
    ...evidenceRoutes(),
  ];
  return [...routes, openApiRoute(routes, packageJson.version)];
}

/** The same list where it's only looked at: no handler runs, so that what stands behind them may be absent. */
export function describedRoutes(): Route[] {
  const absent = undefined as never;
  return createRoutes({
    config: readConfig({}),
    db: absent,
    keys: absent,
    tokens: absent,
    egress: absent,
    usage: absent,
    guessGuard: absent,
    oauth: absent,
    chains: new Map(),
    clock: absent,
    payments: absent,
    isReady: async () => false,
  });
}

async function networkOf(db: Database, environmentId: EnvironmentId): Promise<Network> {
  const environment = await findEnvironment(db, environmentId);
  assert(environment, 'a principal acts in an environment that exists');
  return networks[environment.kind];
}
