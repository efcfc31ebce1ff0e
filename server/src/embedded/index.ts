/** What the server runs as child processes in development: the real PostgreSQL and a local chain, over one data directory. */
export { openDataDirectory, readSecret, type DataDirectory } from './data-directory.ts';
export { findRunningDatabase } from './running-database.ts';
export { startPostgres, type EmbeddedPostgres } from './postgres.ts';
export { startChain, type EmbeddedChain } from './chain.ts';
export { fundAccount } from './fund-account.ts';
export { baseSepoliaUsdc, multicall3Address, plantBatchContract, plantTestToken } from './plant-contracts.ts';
export type { ChildExit } from './child-process.ts';
