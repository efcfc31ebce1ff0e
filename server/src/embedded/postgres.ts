import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StartupError } from '../kernel/startup-error.ts';
import { locatePostgresPackage, nodeModulesOf, preparePostgres, type PostgresBinaries } from './binaries.ts';
import { startChild, type Child, type ChildExit } from './child-process.ts';
import { endOrphan, findOrphan } from './child-record.ts';
import type { DataDirectory } from './data-directory.ts';
import type { EndStep } from './end-process.ts';
import { findFreePort } from './free-port.ts';
import { assertReachable, findDatabaseUser, type OsUser } from './os-user.ts';
import { initdbProgram, initdbEndSteps, openCluster, type Cluster } from './postgres-cluster.ts';
import { connectionUrl, waitUntilReady } from './postgres-ready.ts';
import { findProcess } from './process-identity.ts';

/** A running PostgreSQL of our own. */
export interface EmbeddedPostgres {
  /** `postgres://…` of the database `credence`, with its password. */
  url: string;
  /** Ends it (fast shutdown) and resolves when it has ended. */
  stop(): Promise<void>;
  /** Resolves only if it ends by itself. */
  unexpectedExit: Promise<ChildExit>;
}

const childName = 'postgres';
/** SIGINT is PostgreSQL's fast shutdown, which ends with a checkpoint; SIGQUIT leaves that to the next start. */
const endSteps: EndStep[] = [
  { signal: 'SIGINT', waitMs: 20_000 },
  { signal: 'SIGQUIT', waitMs: 5_000 },
  { signal: 'SIGKILL', waitMs: 5_000 },
];
/** How long processes of a database that was killed may hold on to its files. */
const heldFilesMsMax = 15_000;
const portAttemptsMax = 5;

/**
 * Starts the embedded database over `pg/` in the data directory: ends what a killed instance left running, makes the files
 * the first time, and resolves when the database answers.
 * @throws StartupError when this machine or the directory doesn't allow it.
 */
export async function startPostgres(options: {
  directory: DataDirectory;
  log: (line: string) => void;
}): Promise<EmbeddedPostgres> {
  const { directory, log } = options;
  const user = await findDatabaseUser();
  const source = locatePostgresPackage();
  if (user) await assertUserCanReach(user, directory, source);
  const binaries = await preparePostgres(directory, source);
  await endOrphanedPostgres(directory, log);
  const cluster = await openCluster(directory, binaries, user);
  await removeForeignPidFile(cluster.path);
  const { child, port } = await launch({ directory, log, user, binaries, cluster });
  return {
    url: connectionUrl(port, cluster.password),
    stop: () => child.stop(),
    unexpectedExit: child.unexpectedExit,
  };
}

async function assertUserCanReach(user: OsUser, directory: DataDirectory, source: string): Promise<void> {
  await assertReachable(user, directory.path, 'set CREDENCE_DATA_DIR to a folder that every user can reach');
  const modules = nodeModulesOf(source);
  await assertReachable(user, modules, 'move the project to a folder that every user can reach');
  await assertReachable(
    user,
    join(source, 'native/bin/postgres'),
    `open the installed packages to every user with chmod -R o+rX '${modules}'`,
  );
}

async function endOrphanedPostgres(directory: DataDirectory, log: (line: string) => void): Promise<void> {
  const unfinished = findOrphan(directory, initdbProgram);
  if (unfinished) await endOrphan(unfinished, initdbEndSteps);
  const orphan = findOrphan(directory, childName) ?? findPostmaster(join(directory.path, 'pg'));
  if (!orphan) return;
  log(`stopping a database that an earlier run left behind (pid ${orphan.pid})`);
  await endOrphan(orphan, endSteps);
}

/** PostgreSQL's own note of its pid, for a child that lived shorter than it took to record it. */
function findPostmaster(path: string): ReturnType<typeof findProcess> {
  const pid = readPidFile(path);
  const found = pid === undefined ? undefined : findProcess(pid);
  return found && /\/postgres /.test(found.command) && found.command.includes(` -D ${path} `)
    ? found
    : undefined;
}

/**
 * After the orphan is gone, the pid in `postmaster.pid` can be that of a stranger, or of a zombie, and PostgreSQL would refuse
 * to start as long as it exists. Processes that still use the files are found by PostgreSQL through its shared memory.
 */
async function removeForeignPidFile(path: string): Promise<void> {
  if (readPidFile(path) === undefined || findPostmaster(path)) return;
  await rm(join(path, 'postmaster.pid'), { force: true });
}

function readPidFile(path: string): number | undefined {
  try {
    const pid = Number.parseInt(readFileSync(join(path, 'postmaster.pid'), 'utf8'), 10);
    return pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

interface Launch {
  directory: DataDirectory;
  log: (line: string) => void;
  user: OsUser | undefined;
  binaries: PostgresBinaries;
  cluster: Cluster;
}

async function launch(options: Launch): Promise<{ child: Child; port: number }> {
  const deadline = Date.now() + heldFilesMsMax;
  let pauseMs = 50;
  for (let portAttempts = 1; ;) {
    const port = await findFreePort();
    const child = await spawnPostgres(options, port);
    const exit = await waitUntilReady(child, port, options.cluster.password);
    if (!exit) return { child, port };
    const said = exit.lastLines.join('\n');
    if (/could not bind|could not create any TCP\/IP sockets/.test(said) && portAttempts < portAttemptsMax) {
      portAttempts += 1; // Somebody took the port between our look and PostgreSQL's.
    } else if (/postmaster\.pid|shared memory block/.test(said) && Date.now() < deadline) {
      options.log('waiting for processes of an earlier database to end');
      await sleep(pauseMs);
      pauseMs = Math.min(pauseMs * 2, 1_000);
    } else {
      throw new StartupError(`PostgreSQL can't start: ${describeExit(exit)}.`);
    }
  }
}

/**
 * glibc: a backend would give memory back after each batch, and take it again page by page for the next: 8 % of its time under load. It
 * keeps up to 16 MiB instead.
 */
const keepsMemory = {
  MALLOC_TRIM_THRESHOLD_: String(16 * 1024 * 1024),
  MALLOC_MMAP_THRESHOLD_: String(16 * 1024 * 1024),
  MALLOC_TOP_PAD_: String(1024 * 1024),
};

function spawnPostgres({ directory, log, user, binaries, cluster }: Launch, port: number): Promise<Child> {
  const settings = {
    listen_addresses: '127.0.0.1',
    port: String(port),
    unix_socket_directories: '',
    max_connections: '200',
    shared_buffers: '128MB',
    fsync: 'on',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_line_prefix: '',
    // Errors of statements go to the caller, who can tell an expected conflict from a fault; their details hold row values.
    log_min_messages: 'log',
    log_checkpoints: 'off',
  };
  const args = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  return startChild({
    directory,
    name: childName,
    program: binaries.postgres,
    args: ['-D', cluster.path, ...args],
    env: { ...binaries.env, ...keepsMemory, LC_ALL: 'C', TZ: 'UTC' },
    runAs: user,
    endSteps,
    onLine: log,
  });
}

function describeExit(exit: ChildExit): string {
  const reason = exit.lastLines.findLast((line) => /FATAL|PANIC|error/i.test(line)) ?? exit.lastLines.at(-1);
  return reason?.trim() ?? `it ended with ${exit.signal ?? `code ${exit.code}`}`;
}
