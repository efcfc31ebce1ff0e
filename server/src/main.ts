import type { Logger } from 'pino';
import { createApp } from './app.ts';
import { type Config, readConfig } from './config.ts';
import { printBanner, setUpDevelopment } from './development/index.ts';
import { openDataDirectory } from './embedded/index.ts';
import { openGround } from './ground.ts';
import { systemClock } from './kernel/clock.ts';
import { limits } from './kernel/limits.ts';
import { createLogger } from './kernel/logger.ts';
import { StartupError } from './kernel/startup-error.ts';
import { openPlanes } from './planes.ts';

/** What has been started, in that order; it is ended from the back. */
type Endings = (() => Promise<void>)[];

/** Starts what the settings ask for. `failure` is a reason to stop that may come later: a child that has ended by itself. */
async function start(
  config: Config,
  logger: Logger,
  endings: Endings,
): Promise<{ failure: Promise<string> }> {
  const directory = config.mode === 'development' ? await openDataDirectory(config.dataDirectory) : undefined;
  if (directory) endings.push(() => directory.release());
  const planes = await openPlanes(config);
  endings.push(() => planes.close(0));

  const ground = await openGround(config, logger, directory);
  endings.push(() => ground.stop());
  const app = await createApp({ config, logger, ...ground });
  endings.push(() => app.close());
  if (directory) {
    const { chain, chains } = ground;
    const rpcUrl = chains.sandbox?.rpcUrl ?? '';
    const development = await setUpDevelopment(app, config, {
      directory,
      chain,
      rpcUrl,
      now: () => systemClock.now(),
    });
    endings.push(() => development.close());
    printBanner(config, development.info, directory.path);
  }
  planes.serve(app);
  app.startWorkers();
  endings.push(async () => {
    app.beginDrain();
    await planes.close(limits.drainSeconds);
    await app.idle();
  });
  const { childExit } = ground;
  return {
    failure: childExit.then(
      ({ name, lastLines }) => `${name} has ended by itself: ${lastLines.at(-1) ?? 'no output'}`,
    ),
  };
}

/** Ends what was started, the last first: requests in flight end before what they need. */
async function stop(endings: Endings): Promise<void> {
  for (let end = endings.pop(); end; end = endings.pop()) await end();
}

/** The first signal stops the program, and those that follow change nothing: a terminal and npm may both send one. */
function nextSignal(): Promise<undefined> {
  return new Promise((resolve) => {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => resolve(undefined));
  });
}

/** Of an error that isn't foreseen, the first line and where it came from: clients print their URLs and arguments on the rest. */
function describeFailure(error: unknown): string {
  if (error instanceof StartupError) return error.message;
  if (!(error instanceof Error)) return typeof error;
  const frames = error.stack?.split('\n').filter((line) => /^\s+at /.test(line)) ?? [];
  return [`${error.name}: ${error.message.split('\n', 1)[0]}`, ...frames].join('\n');
}

async function main(): Promise<number> {
  const endings: Endings = [];
  const signal = nextSignal();
  let failure: string | undefined;
  try {
    const config = readConfig(process.env);
    const logger = createLogger({
      level: config.logLevel,
      stream: config.mode === 'production' ? 'stdout' : 'stderr',
    });
    const started = await start(config, logger, endings);
    failure = await Promise.race([signal, started.failure]);
  } catch (error) {
    failure = describeFailure(error);
  }
  if (failure !== undefined) process.stderr.write(`credence: ${failure}\n`);
  await stop(endings);
  return failure === undefined ? 0 : 1;
}

process.exit(await main());
