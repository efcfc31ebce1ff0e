import { StartupError } from './kernel/startup-error.ts';
import { type Environment, textOf } from './setting-values.ts';

/** What one chain needs to be used. */
export interface ChainConfig {
  rpcUrl: string;
  /** Pays the gas of settlements: a private key, 0x and 64 hexadecimal digits. */
  relayerKey: `0x${string}`;
  /** How many blocks deep a settlement is watched for a reorganisation; absent, until the chain's RPC calls its block finalized. */
  reorgDepth?: number;
  /** What makes many calls in one transaction; absent, Multicall3. */
  batchContract?: `0x${string}`;
}

/** Some hours on any chain of ours; deeper ones are called finalized long before. */
const depthMax = 10_000;

/** The chain of one half; absent, where nothing is said of it. Throws `StartupError` where only a part is. */
export function chainOf(env: Environment, half: 'PRODUCTION' | 'SANDBOX'): ChainConfig | undefined {
  const names = {
    rpc: `CREDENCE_${half}_RPC_URL`,
    key: `CREDENCE_${half}_RELAYER_KEY`,
    depth: `CREDENCE_${half}_REORG_DEPTH`,
    batch: `CREDENCE_${half}_BATCH_CONTRACT`,
  };
  const rpcUrl = textOf(env, names.rpc);
  const relayerKey = textOf(env, names.key);
  const depth = textOf(env, names.depth);
  const batchContract = textOf(env, names.batch);
  if ([rpcUrl, relayerKey, depth, batchContract].every((value) => value === undefined)) return undefined;
  if (rpcUrl === undefined || !/^https?:$/.test(URL.parse(rpcUrl)?.protocol ?? '')) {
    throw new StartupError(`${names.rpc} must be the http(s) URL of the chain's RPC`);
  }
  if (relayerKey === undefined || !/^0x[0-9a-fA-F]{64}$/.test(relayerKey)) {
    throw new StartupError(`${names.key} must be a private key: 0x and 64 hexadecimal digits`);
  }
  if (
    depth !== undefined &&
    depth !== 'finalized' &&
    !(/^\d{1,5}$/.test(depth) && Number(depth) <= depthMax)
  ) {
    throw new StartupError(
      `${names.depth} must be a number of blocks up to ${depthMax}, or "finalized", which it is by itself`,
    );
  }
  if (batchContract !== undefined && !/^0x[0-9a-fA-F]{40}$/.test(batchContract)) {
    throw new StartupError(`${names.batch} must be the address of a contract: 0x and 40 hexadecimal digits`);
  }
  return {
    rpcUrl,
    relayerKey: relayerKey as `0x${string}`,
    ...(depth === undefined || depth === 'finalized' ? {} : { reorgDepth: Number(depth) }),
    ...(batchContract === undefined ? {} : { batchContract: batchContract as `0x${string}` }),
  };
}
