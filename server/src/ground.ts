import { join } from 'node:path';
import type { Logger } from 'pino';
import { privateKeyToAccount } from 'viem/accounts';
import type { Parts } from './services.ts';
import type { Config } from './config.ts';
import {
  type ChildExit,
  type DataDirectory,
  type EmbeddedChain,
  type EmbeddedPostgres,
  findRunningDatabase,
  fundAccount,
  plantBatchContract,
  plantTestToken,
  readSecret,
  startChain,
  startPostgres,
} from './embedded/index.ts';
import { assert } from './kernel/assert.ts';
import { StartupError } from './kernel/startup-error.ts';
import { networks } from './x402/index.ts';

/** What the program stands on: a database, chains and keys, from outside or as children of ours. */
export interface Ground extends Pick<Parts, 'chains' | 'databaseUrl' | 'masterKey'> {
  /** The local chain, where it is ours. */
  chain: EmbeddedChain | undefined;
  /** Resolves when a child of ours has ended by itself; never, where there is none. */
  childExit: Promise<ChildExit>;
  stop(): Promise<void>;
}

interface Children {
  postgres: EmbeddedPostgres | undefined;
  chain: EmbeddedChain | undefined;
}

const masterKeyFile = 'master.key';
/** Test ether for some hundred thousand settlements on the local chain. */
const relayerFunds = 1_000n * 10n ** 18n;

/** Opens what the settings name, and starts what they leave to us. There is no `directory` in production mode. */
export async function openGround(
  config: Config,
  logger: Logger,
  directory: DataDirectory | undefined,
): Promise<Ground> {
  const children = await startChildren(config, logger, directory);
  const { postgres, chain } = children;
  try {
    const databaseUrl = config.databaseUrl ?? postgres?.url;
    const masterKey =
      config.masterKey ?? (await directory?.getOrCreateSecret(masterKeyFile, 32).then(fromHex));
    assert(databaseUrl !== undefined && masterKey !== undefined, 'the settings name what we do not make');
    return {
      databaseUrl,
      masterKey,
      chains: {
        ...chainsOutside(config),
        ...(chain && directory ? await openLocalChain(chain, directory) : {}),
      },
      chain,
      childExit: Promise.race([postgres, chain].flatMap((child) => (child ? [child.unexpectedExit] : []))),
      stop: () => stopChildren(children),
    };
  } catch (error) {
    await stopChildren(children);
    throw error;
  }
}

/** The ground that a running instance of these settings stands on, for a command beside it. Throws `StartupError` where none runs. */
export async function findRunningGround(config: Config): Promise<Pick<Ground, 'databaseUrl' | 'masterKey'>> {
  const databaseUrl = config.databaseUrl ?? (await findRunningDatabase(config.dataDirectory));
  const kept = await readSecret(join(config.dataDirectory, masterKeyFile));
  const masterKey = config.masterKey ?? (kept === undefined ? undefined : fromHex(kept));
  if (databaseUrl === undefined || masterKey === undefined) {
    throw new StartupError(
      `no instance runs over ${config.dataDirectory}: start it first, or set CREDENCE_DATA_DIR or DATABASE_URL to its own`,
    );
  }
  return { databaseUrl, masterKey };
}

/** Database and chain start at the same time. If one of them can't, the other is stopped again. */
async function startChildren(
  config: Config,
  logger: Logger,
  directory: DataDirectory | undefined,
): Promise<Children> {
  if (!directory) return { postgres: undefined, chain: undefined };
  const log = (line: string) => logger.debug({ line }, 'child');
  const [postgres, chain] = await Promise.allSettled([
    config.databaseUrl === undefined ? startPostgres({ directory, log }) : undefined,
    config.chains.sandbox === undefined
      ? startChain({ directory, chainId: networks.sandbox.chainId, log })
      : undefined,
  ]);
  if (postgres.status === 'fulfilled' && chain.status === 'fulfilled') {
    return { postgres: postgres.value, chain: chain.value };
  }
  await stopChildren({
    postgres: postgres.status === 'fulfilled' ? postgres.value : undefined,
    chain: chain.status === 'fulfilled' ? chain.value : undefined,
  });
  throw postgres.status === 'rejected' ? postgres.reason : (chain as PromiseRejectedResult).reason;
}

async function stopChildren({ postgres, chain }: Children): Promise<void> {
  await Promise.all([postgres?.stop(), chain?.stop()]);
}

function chainsOutside({ chains }: Config): Parts['chains'] {
  return {
    ...(chains.sandbox ? { sandbox: { ...chains.sandbox, finality: 'finalized' as const } } : {}),
    ...(chains.production ? { production: { ...chains.production, finality: 'finalized' as const } } : {}),
  };
}

/** Plants the token and the batch contract where public chains have theirs, and gives the relayer its gas. */
async function openLocalChain(chain: EmbeddedChain, directory: DataDirectory): Promise<Parts['chains']> {
  const relayerKey = `0x${await directory.getOrCreateSecret('relayer.key', 32)}` as const;
  await plantTestToken(chain.url, networks.sandbox.asset.address);
  await plantBatchContract(chain.url);
  await fundAccount(chain.url, { address: privateKeyToAccount(relayerKey).address, wei: relayerFunds });
  return { sandbox: { rpcUrl: chain.url, relayerKey, finality: 'instant' } };
}

function fromHex(text: string): Buffer {
  return Buffer.from(text, 'hex');
}
