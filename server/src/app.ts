import type { RequestListener } from 'node:http';
import { createRoutes } from './api.ts';
import { createAuthenticators, type DevelopmentPrincipal } from './authenticators.ts';
import { type Database, listen, type WriteContext } from './db/index.ts';
import {
  createAnswerMemory,
  createClientAddress,
  createForwarder,
  createGateway,
  createPublishedServers,
} from './gateway/index.ts';
import { addConsolePages, answerDirectly, createControlServer, createJsonReader } from './http/index.ts';
import { isClientSecretShaped, isRefreshTokenShaped, signingKeysChannel } from './identity/index.ts';
import { findServerBySlug, serverChangedChannel } from './market/index.ts';
import { closeServices, createServices, type Parts, type Services, systemContext } from './services.ts';
import { createCreditKeys, creditKeysChangedChannel } from './wallet/index.ts';
import { createCreditVerifier, createPaymentLane, type PaymentLane, signatureBackend } from './x402/index.ts';
import { startCountLoop, startKeysLoop, startWorkerLoops, type WorkerLoops } from './workers.ts';

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

/** Constructs the program over an open database: migrates it, loads its keys, and wires the rooms. */
export async function createApp(parts: Parts): Promise<App> {
  const services = await createServices(parts);
  return createAppOver(services).catch(async (error: unknown) => {
    await closeServices(services);
    throw error;
  });
}

async function createAppOver(services: Services): Promise<App> {
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
  const { gateway, servers, creditKeys, forwarder } = createDataPlane(services, payments);

  const loops: WorkerLoops = { capture: [], other: [] };
  const [reloadingKeys, counting] = [startKeysLoop(services), startCountLoop(services)];
  const listener = listen(
    db,
    {
      outbox: () => loops.capture.forEach((loop) => loop.wake()),
      [serverChangedChannel]: (slug) => servers.forget(slug),
      [creditKeysChangedChannel]: (environmentId) => creditKeys.forget(environmentId),
      ...services.oauth.channels,
      [signingKeysChannel]: () => reloadingKeys.wake(),
    },
    (error) => logger.warn({ err: error }, 'notifications are interrupted'),
  );

  return {
    db,
    systemContext: () => systemContext(services),
    control: control.listener,
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
      await Promise.all(
        [counting, reloadingKeys, ...loops.capture, ...loops.other].map((loop) => loop.stop()),
      );
      await services.usage.flush().catch((error: unknown) => {
        logger.warn({ err: error }, 'the last usage counts are lost');
      });
      await Promise.all([control.close(), forwarder.close(), listener.close(), payments.stop()]);
      await closeServices(services);
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
  const options = {
    ...services,
    trustedProxies: config.trustedProxies,
    routes: createRoutes({ ...services, ...state }),
    authenticators: createAuthenticators(services, state.developmentPrincipal),
    findGatewayUrl: async (slug: string) => {
      const server = await findServerBySlug(db, slug);
      return server?.state === 'published' ? `${config.gatewayUrl}/api/${slug}` : undefined;
    },
  };
  const control = await createControlServer(options);
  await addConsolePages(control, new URL('../../console/', import.meta.url));
  await control.ready();
  return {
    listener: answerDirectly({ ...options, readJson: createJsonReader(control) }, (request, response) =>
      control.routing(request, response),
    ),
    close: () => control.close(),
  };
}

/** The data plane: what it sells, whom it lets in, and how it calls upstreams. */
function createDataPlane(services: Services, payments: PaymentLane) {
  const { config } = services;
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
    verifyCredit: createCreditVerifier(),
    servers,
    forwarder,
    gatewayUrl: config.gatewayUrl,
    memory: createAnswerMemory(config.answerMemoryMib * 1024 * 1024),
    findAgent: async (presented) => (await services.identifier.identify(presented))?.agentId,
    clientAddressOf: createClientAddress(config.trustedProxies),
    // API keys, agents' secrets and refresh tokens, and what we signed.
    isOurCredential: (value) =>
      /^awx_(?:live|test)_/.test(value) ||
      isClientSecretShaped(value) ||
      isRefreshTokenShaped(value) ||
      services.tokens.isOurs(value),
  });
  return { gateway, servers, creditKeys, forwarder };
}

async function isReachable(db: Database): Promise<boolean> {
  return db.query('SELECT 1').then(
    () => true,
    () => false,
  );
}
