import type { Logger } from 'pino';
import type { EnvironmentKind } from './accounts/index.ts';
import type { ChainConfig, Config } from './config.ts';
import {
  createDatabaseClock,
  createSharedCounts,
  type Database,
  type DatabaseClock,
  migrate,
  openDatabase,
  type SharedCounts,
  type WriteContext,
} from './db/index.ts';
import {
  type AgentIdentifier,
  type AgentUsage,
  createAgentUsage,
  createGuessGuard,
  createTokens,
  type GuessGuard,
  loadSigningKeys,
  type OAuth,
  openOAuth,
  type SigningKeys,
  type Tokens,
} from './identity/index.ts';
import { type Clock, systemClock } from './kernel/clock.ts';
import { createSecretBox, type SecretBox } from './kernel/crypto.ts';
import { createEgressGuard, type EgressGuard } from './kernel/egress.ts';
import { limits } from './kernel/limits.ts';
import { StartupError } from './kernel/startup-error.ts';
import {
  type Chain,
  createChain,
  createSettler,
  ensureRelayer,
  networks,
  type Settler,
} from './x402/index.ts';

/** What a process needs besides its settings: where its database and chains are, and its master key. */
export interface Parts {
  config: Config;
  logger: Logger;
  databaseUrl: string;
  masterKey: Buffer;
  chains: Partial<Record<EnvironmentKind, ChainConfig & { finality: 'finalized' | 'instant' }>>;
}

type Chains = ReadonlyMap<string, { chain: Chain; settler: Settler }>;

/** Everything that the rooms are given; made here, and nowhere else. */
export interface Services {
  config: Config;
  logger: Logger;
  /** The database's, which all processes go by. */
  clock: DatabaseClock;
  db: Database;
  /** Connections for what is done for many at once. */
  batches: Database;
  /** What all processes count together. */
  counts: SharedCounts;
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

/** Opens what the program stands on, and constructs what its rooms are given. */
export async function createServices(parts: Parts): Promise<Services> {
  const onError = (error: Error) => parts.logger.warn({ err: error }, 'a database connection was lost');
  const db = openDatabase(parts.databaseUrl, { poolSize: 20, onError });
  const batches = openDatabase(parts.databaseUrl, { poolSize: 8, onError, planOnce: true });
  let clock: DatabaseClock | undefined;
  try {
    await migrate(db, new URL('../migrations/', import.meta.url), systemClock.now());
    clock = await openClock(db, parts.logger);
    return await createServicesOver({ db, batches, clock }, parts);
  } catch (error) {
    await clock?.stop();
    // Its connections would else be cut by an embedded database that stops, and be reported as lost.
    await Promise.all([db.close(), batches.close()]);
    throw error;
  }
}

async function createServicesOver(
  { db, batches, clock }: Pick<Services, 'batches' | 'clock' | 'db'>,
  parts: Parts,
): Promise<Services> {
  const { config, logger } = parts;
  const box = createSecretBox(parts.masterKey);
  const context = systemContext({ db, clock, box });
  const { signatures } = config;
  const keys = await loadSigningKeys(context, Object.values(signatures));
  const tokens = createTokens(keys, config.publicUrl, {
    'at+jwt': signatures.tokens,
    'vc+jwt': signatures.credentials,
  });
  const chains = await openChains(parts, context, batches);
  const egress = createEgressGuard({
    allow: config.egressAllow,
    allowLoopback: config.mode === 'development',
  });
  const usage = createAgentUsage({ db, clock });
  const guessGuard = createGuessGuard({ db, clock });
  const counts = createSharedCounts({ db: batches, clock });
  // Last, as it goes on reading in the background: nothing that fails after it would stop that.
  const oauth = await openOAuth({
    db,
    counts,
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
    counts,
    box,
    keys,
    tokens,
    chains,
    egress,
    usage,
    guessGuard,
    oauth,
    identifier: oauth.identifier,
  };
}

/** Ends what goes on in the background, then lets go of the database. */
export async function closeServices({ oauth, counts, clock, db, batches }: Services): Promise<void> {
  await Promise.all([oauth.stop(), counts.stop(), clock.stop()]);
  await Promise.all([db.close(), batches.close()]);
}

/** Processes agree with one another whatever their machines' clocks say; others, and chains, go by clocks of their own. */
async function openClock(db: Database, logger: Logger): Promise<DatabaseClock> {
  const clock = await createDatabaseClock(db, {
    onError: (error) => logger.warn({ err: error }, "the database's clock is looked at later"),
  });
  const { machineAheadMs } = clock;
  if (Math.abs(machineAheadMs) > limits.clockDifferenceSeconds * 1000)
    logger.warn(
      { machineAheadMs },
      "this machine's clock and the database's differ: every process goes by the database's, while who checks tokens and payments elsewhere goes by the right time; see that both machines keep it (NTP), the database's above all",
    );
  return clock;
}

async function openChains(parts: Parts, context: WriteContext, batches: Database): Promise<Chains> {
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
    chains.set(chain.network.id, { chain, settler: createSettler({ context, batches, chain, report }) });
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

/** A context for what the program itself writes. */
export function systemContext(services: { db: Database; clock: Clock; box: SecretBox }): WriteContext {
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
