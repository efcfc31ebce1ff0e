/* A whole instance as a process of its own, for tests that kill it: `node instance.fixture.ts <data directory>`. */
import { openDataDirectory, startChain, startPostgres } from './index.ts';

const directory = await openDataDirectory(process.argv[2] ?? '');
const log = (): void => undefined;
const [postgres, chain] = await Promise.all([
  startPostgres({ directory, log }),
  startChain({ directory, chainId: 84532, log }),
]);
process.stdout.write(`${JSON.stringify({ postgresUrl: postgres.url, chainUrl: chain.url })}\n`);
setInterval(() => undefined, 60_000);
