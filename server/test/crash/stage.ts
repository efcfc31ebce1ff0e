import type { Address } from 'viem';
import { connect, type LocalChain, startLocalChain } from '../../contracts/test/local-chain.ts';
import { fundAccount, plantBatchContract, plantTestToken } from '../../src/embedded/index.ts';
import { networks } from '../../src/x402/index.ts';
import { openTestDatabase, type TestDatabase } from '../helpers/database.ts';
import { type Fleet, startFleet } from './fleet.ts';
import { type Oracle, openOracle } from './oracle.ts';
import { relayer } from './payment-parts.ts';
import { type Market, openMarket } from './purchases.ts';

/** Everything that a crash test plays on. */
export interface Stage {
  database: TestDatabase;
  fleet: Fleet;
  market: Market;
  oracle: Oracle;
  /** Lets the authorisations that were never used die, so that their holds end. */
  outlast(): Promise<void>;
}

/** A stage on a chain of its own, which ends with it. */
export interface OwnStage extends Stage {
  local: LocalChain;
  end(): Promise<void>;
}

export async function setOwnStage(options: StageOptions = {}): Promise<OwnStage> {
  const local = await startLocalChain();
  try {
    const stage = await setStage(local.rpcUrl, options);
    return {
      ...stage,
      local,
      async end() {
        await stage.market.upstream.close();
        await local.stop();
      },
    };
  } catch (error) {
    await local.stop();
    throw error;
  }
}

interface StageOptions {
  /** Whose code bounds the gas of each payment; else it is where public chains have Multicall3, which bounds none. */
  ownBatchContract?: Address;
}

/** Plants what the program needs on a chain, and starts the program over it. */
export async function setStage(rpcUrl: string, { ownBatchContract }: StageOptions = {}): Promise<Stage> {
  const database = await openTestDatabase();
  await plantTestToken(rpcUrl, networks.sandbox.asset.address);
  await plantBatchContract(rpcUrl, ownBatchContract);
  await fundAccount(rpcUrl, { address: relayer, wei: 10n ** 20n });
  const fleet = await startFleet({ databaseUrl: database.url, rpcUrl, batchContract: ownBatchContract });
  const wallet = fleet.control.info.wallet_address as Address;
  await fundAccount(rpcUrl, { address: wallet, tokenAtomic: 1_000_000_000n });
  const market = await openMarket(fleet, rpcUrl, database.db);
  const oracle = openOracle(database.db, rpcUrl, market, fleet.workers);
  return {
    database,
    fleet,
    market,
    oracle,
    async outlast() {
      const anvil = connect(rpcUrl);
      await anvil.increaseTime({ seconds: 3_600 });
      // Beyond what any chain calls final.
      await anvil.mine({ blocks: 100 });
    },
  };
}
