import type { RequestListener } from 'node:http';
import packageJson from '../package.json' with { type: 'json' };
import type { Logger } from 'pino';
import { type EnvironmentKind, findApiKey, findEnvironment } from './accounts/index.ts';
import { createAuthenticators, type DevelopmentPrincipal } from './authenticators.ts';
import type { ChainConfig, Config } from './config.ts';
import {
  type Database,
  listen,
  migrate,
  openDatabase,
  sweepIdempotencyKeys,
  type WriteContext,
} from './db/index.ts';
import { evidenceRoutes } from './evidence/index.ts';
import { createForwarder, createGateway, createPublishedServers } from './gateway/index.ts';
import {
  addConsolePages,
  createControlServer,
  healthRoutes,
  openApiRoute,
  type Route,
} from './http/index.ts';
import {
  type AgentUsage,
  type AgentIdentifier,
  createAgentUsage,
  createGuessGuard,
  createTokens,
  type GuessGuard,
  identityRoutes,
  isClientSecretShaped,
  loadSigningKeys,
  type OAuth,
  openOAuth,
  type SigningKeys,
  signingKeysChannel,
  sweepIdleAgents,
  sweepOAuth,
  tendSigningKeys,
  type Tokens,
} from './identity/index.ts';
import { assert } from './kernel/assert.ts';
import { type Clock, systemClock } from './kernel/clock.ts';
import { createSecretBox, type SecretBox } from './kernel/crypto.ts';
import { createEgressGuard, type EgressGuard } from './kernel/egress.ts';
import type { EnvironmentId } from './kernel/ids.ts';
import { type Loop, startLoop } from './kernel/loop.ts';
import { StartupError } from './kernel/startup-error.ts';
import { findPayeeOfResource, findServerBySlug, marketRoutes, serverChangedChannel } from './market/index.ts';
import {
  captureSettled,
  closeExpired,
  createCreditKeys,
  creditKeysChangedChannel,
  refundUndelivered,
  walletRoutes,
} from './wallet/index.ts';
import {
  type Chain,
  createChain,
  createPaymentLane,
  ensureRelayer,
  facilitatorRoutes,
  type Network,
  networks,
  type PaymentLane,
  paymentRoutes,
  resumeCredits,
  createSettler,
  findLowRelayers,
  relayerRoutes,
  type Settler,
  signatureBackend,
} from './x402/index.ts';

/** What a process needs besides its settings: where its database and chains are, and its master key. */
export interface Parts {
  config: Config;
  logger: Logger;
  databaseUrl: string;
  masterKey: Buffer;
  chains: Partial<Record<EnvironmentKind, ChainConfig & { finality: 'finalized' | 'instant' }>>;
}

/** The constructed program: two planes to listen with, and the work that goes on behind them. */
export interface App {
  db: Database;
  /** A context for what the program itself writes. */
  systemContext(): WriteContext;
  control: RequestListener;
  gateway: RequestListener;
  /** Whose organisation a request without a credential acts for; set once development has been seeded. */
  setDevelopmentPrincipal(principal: DevelopmentPrincipal): void;
  /** Begins the background work of the worker role. */
  startWorkers(): void;
  /** From now on `ready` says no. */
  beginDrain(): void;
  /** Resolves when every call that was begun has ended, those whose client has left as well. */
  idle(): Promise<void>;
  /** Ends the background work, then lets go of the database. Call it when no request comes in any more. */
  close(): Promise<void>;
}

type Chains = ReadonlyMap<string, { chain: Chain; settler: Settler }>;

/** Everything that the rooms are given; made here, and nowhere else. */
interface Services {
  config: Config;
  logger: Logger;
  clock: Clock;
  db: Database;
  /** Connections for what is done for many at once. */
  batches: Database;
  box: SecretBox;
  chains: Chains;
  keys: SigningKeys;
  tokens: Tokens;
  egress: EgressGuard;
  usage: AgentUsage;
  guessGuard: GuessGuard;
  oauth: OAuth;
  identifier: AgentIdentifier;
}

/** Constructs the program over an open database: migrates it, loads its keys, and wires the rooms. */
export async function createApp(parts: Parts): Promise<App> {
  const services = await createServices(parts);
  const { db, logger, config } = services;
  logger.info({ signatureBackend }, 'payment signatures are checked by this build of libsecp256k1');
  let developmentPrincipal: DevelopmentPrincipal | undefined;
  let draining = false;

  const payments = createPaymentLane({ ...services, db: services.batches, owedMax: config.owedMax });
  const control = await createControl(services, {
    payments,
    isReady: async () => !draining && (await isReachable(db)),
    developmentPrincipal: () => developmentPrincipal,
  });
  const servers = createPublishedServers(services);
  const forwarder = createForwarder({
    connect: services.egress.guardedConnect('upstream'),
    limits: { originsMax: 512, callsPerOriginMax: 256, originIdleMs: 60_000 },
  });
  const creditKeys = createCreditKeys(services);
  const gateway = createGateway({
    ...services,
    payments,
    creditKeys,
    servers,
    forwarder,
    gatewayUrl: config.gatewayUrl,
    findAgent: async (presented) => (await services.identifier.identify(presented))?.agentId,
    // API keys, agents' secrets, and tokens.
    isOurCredential: (value) =>
      /^awx_(?:live|test)_/.test(value) || isClientSecretShaped(value) || services.tokens.isOurs(value),
  });

  const loops = { capture: [] as Loop[], other: [] as Loop[], keys: startKeysLoop(services) };
  const flushing = startLoop({
    intervalMs: intervals.flushMs,
    run: () => services.usage.flush(),
    onError: (error) => logger.warn({ err: error }, 'usage counts are written later'),
  });
  const listener = listen(
    db,
    {
      outbox: () => loops.capture.forEach((loop) => loop.wake()),
      [serverChangedChannel]: (slug) => servers.forget(slug),
      [creditKeysChangedChannel]: (environmentId) => creditKeys.forget(environmentId),
      ...services.oauth.channels,
      [signingKeysChannel]: () => loops.keys.wake(),
    },
    (error) => logger.warn({ err: error }, 'notifications are interrupted'),
  );

  return {
    db,
    systemContext: () => systemContext(services),
    control: (request, response) => control.routing(request, response),
    gateway: (request, response) => gateway.handle(request, response),
    setDevelopmentPrincipal(principal) {
      developmentPrincipal = principal;
    },
    startWorkers() {
      if (config.roles.has('worker')) startWorkerLoops(services, loops);
    },
    beginDrain() {
      draining = true;
    },
    idle: () => gateway.idle(),
    async close() {
      await Promise.all([flushing, ...loops.capture, ...loops.other, loops.keys].map((loop) => loop.stop()));
      await services.usage.flush().catch((error: unknown) => {
        logger.warn({ err: error }, 'the last usage counts are lost');
      });
      await services.oauth.stop();
      await Promise.all([control.close(), forwarder.close(), listener.close(), payments.stop()]);
      await Promise.all([db.close(), services.batches.close()]);
    },
  };
}

/** The control plane: the API, and the console's pages beside it. */
async function createControl(
  services: Services,
  state: {
    payments: PaymentLane;
    isReady(): Promise<boolean>;
    developmentPrincipal(): DevelopmentPrincipal | undefined;
  },
) {
  const { db, config } = services;
  const control = await createControlServer({
    ...services,
    trustedProxies: config.trustedProxies,
    routes: createRoutes({ ...services, ...state }),
    authenticators: createAuthenticators(services, state.developmentPrincipal),
    findGatewayUrl: async (slug) => {
      const server = await findServerBySlug(db, slug);
      return server?.state === 'published' ? `${config.gatewayUrl}/api/${slug}` : undefined;
    },
  });
  await addConsolePages(control, new URL('../../console/', import.meta.url));
  await control.ready();
  return control;
}

async function createServices(parts: Parts): Promise<Services> {
  const onError = (error: Error) => parts.logger.warn({ err: error }, 'a database connection was lost');
  const db = openDatabase(parts.databaseUrl, { poolSize: 20, onError });
  const batches = openDatabase(parts.databaseUrl, { poolSize: 2, onError, planOnce: true });
  try {
    return await createServicesOver({ db, batches }, parts);
  } catch (error) {
    // Its connections would else be cut by an embedded database that stops, and be reported as lost.
    await Promise.all([db.close(), batches.close()]);
    throw error;
  }
}

async function createServicesOver(
  { db, batches }: Pick<Services, 'batches' | 'db'>,
  parts: Parts,
): Promise<Services> {
  const { config, logger } = parts;
  const clock = systemClock;
  const box = createSecretBox(parts.masterKey);
  await migrate(db, new URL('../migrations/', import.meta.url), clock.now());
  const context = systemContext({ db, clock, box });
  const { signatures } = config;
  const keys = await loadSigningKeys(context, Object.values(signatures));
  const tokens = createTokens(keys, config.publicUrl, {
    'at+jwt': signatures.tokens,
    'vc+jwt': signatures.credentials,
  });
  const usage = createAgentUsage({ db, clock });
  const guessGuard = createGuessGuard();
  const oauth = await openOAuth({
    db,
    clock,
    box,
    tokens,
    usage,
    guessGuard,
    dpopNonces: config.dpopNonces,
    onError: (error) => logger.warn({ err: error }, 'revocations are looked up later'),
  });
  return {
    config,
    logger,
    clock,
    db,
    batches,
    box,
    keys,
    tokens,
    chains: await openChains(parts, context),
    egress: createEgressGuard({ allow: config.egressAllow, allowLoopback: config.mode === 'development' }),
    usage,
    guessGuard,
    oauth,
    identifier: oauth.identifier,
  };
}

async function openChains(parts: Parts, context: WriteContext): Promise<Chains> {
  const report = (error: unknown) => parts.logger.warn({ err: error }, 'settling goes on later');
  const chains = new Map<string, { chain: Chain; settler: Settler }>();
  for (const kind of ['sandbox', 'production'] as const) {
    const settings = parts.chains[kind];
    if (!settings) continue;
    const chain = createChain({
      network: networks[kind],
      ...settings,
    });
    await openRelayer(context, chain, kind, settings);
    chains.set(chain.network.id, { chain, settler: createSettler({ context, chain, report }) });
  }
  return chains;
}

/**
 * Another chain's RPC is refused: nonces that are unused there would free budget that is spent. Nothing that failed is repeated
 * in the message, as a provider's URL often holds a key.
 */
async function openRelayer(
  context: WriteContext,
  chain: Chain,
  kind: EnvironmentKind,
  settings: ChainConfig,
): Promise<void> {
  const setting = `CREDENCE_${kind.toUpperCase()}_RPC_URL`;
  const orRefuse = (cause: unknown): never => {
    throw new StartupError(`the ${kind} chain doesn't answer: check ${setting}, and that its RPC is up`, {
      cause,
    });
  };
  const chainId = await chain.chainId().catch(orRefuse);
  if (chainId !== chain.network.chainId) {
    throw new StartupError(
      `${setting} leads to chain ${chainId}, and ${kind} is on chain ${chain.network.chainId}: set it to an RPC of that chain`,
    );
  }
  await chain.settledTime().catch(orRefuse);
  await ensureRelayer(context, chain, settings.relayerKey);
}

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
    }),
    ...relayerRoutes({ chains }),
    ...paymentRoutes(),
    ...facilitatorRoutes({ ...services, settlementsPerDay: config.facilitatorSettlementsPerDay }),
    ...evidenceRoutes(),
  ];
  return [...routes, openApiRoute(routes, packageJson.version)];
}

/** How soon each kind of work is looked for, beyond the notifications that call for some of it at once. */
const intervals = {
  captureMs: 1_000,
  flushMs: 5_000,
  forgetMs: 30_000,
  resumeMs: 2_000,
  expireMs: 2_000,
  refundMs: 30_000,
  relayersMs: 60_000,
  sweepMs: 600_000,
  reloadKeysMs: 4_000,
  tendKeysMs: 60_000,
} as const;

/** In every process, whatever its role: a key that was dropped verifies nothing after 5 seconds, even if nobody could be told. */
function startKeysLoop({ keys, logger }: Services): Loop {
  return startLoop({
    intervalMs: intervals.reloadKeysMs,
    run: () => keys.reload(),
    onError: (error) => logger.warn({ err: error }, 'the signing keys could not be read again'),
  });
}

function startWorkerLoops(services: Services, loops: { capture: Loop[]; other: Loop[] }): void {
  const context = systemContext(services);
  const onError = (error: unknown) =>
    services.logger.error({ err: error }, 'background work failed; it will be tried again');
  loops.capture.push(
    startLoop({ intervalMs: intervals.captureMs, run: () => captureSettled(context), onError }),
  );
  loops.other.push(
    startLoop({ intervalMs: intervals.sweepMs, run: () => sweepIdempotencyKeys(context), onError }),
    startLoop({ intervalMs: intervals.resumeMs, run: () => resumeCredits(context), onError }),
    startLoop({ intervalMs: intervals.sweepMs, run: () => sweepIdleAgents(context), onError }),
    startLoop({ intervalMs: intervals.forgetMs, run: () => sweepOAuth(context), onError }),
    startLoop({ intervalMs: intervals.tendKeysMs, run: () => tendSigningKeys(context), onError }),
    startLoop({ intervalMs: intervals.refundMs, run: () => refundUndelivered(context), onError }),
  );
  const warnOfLow = async (chain: Chain) => {
    for (const relayer of await findLowRelayers(services.db, chain))
      services.logger.warn(relayer, 'a relayer is running out of gas: send it some, or add another');
  };
  for (const { chain, settler } of services.chains.values()) {
    loops.other.push(
      startLoop({ intervalMs: intervals.resumeMs, run: () => settler.resume(), onError }),
      startLoop({ intervalMs: intervals.relayersMs, run: () => warnOfLow(chain), onError }),
      startLoop({ intervalMs: intervals.expireMs, run: () => closeExpired(context, chain), onError }),
    );
  }
}

function systemContext(services: { db: Database; clock: Clock; box: SecretBox }): WriteContext {
  const { db, clock, box } = services;
  return {
    db,
    clock,
    box,
    actor: { kind: 'system', id: 'system' },
    scope: 'instance',
    requestId: null,
    clientAddress: null,
  };
}

async function networkOf(db: Database, environmentId: EnvironmentId): Promise<Network> {
  const environment = await findEnvironment(db, environmentId);
  assert(environment, 'a principal acts in an environment that exists');
  return networks[environment.kind];
}

async function isReachable(db: Database): Promise<boolean> {
  return db.query('SELECT 1').then(
    () => true,
    () => false,
  );
}
