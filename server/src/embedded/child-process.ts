import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { StartupError } from '../kernel/startup-error.ts';
import { forgetChild, recordChild } from './child-record.ts';
import type { DataDirectory } from './data-directory.ts';
import type { OsUser } from './os-user.ts';
import { endProcess, type EndStep } from './end-process.ts';

/** How a child ended, with what it said last. */
export interface ChildExit {
  name: string;
  code: number | null;
  signal: NodeJS.Signals | null;
  lastLines: string[];
}

/** A program that runs beside us, in a process group of its own. */
export interface Child {
  pid: number;
  /** Set once it has ended. */
  exit: ChildExit | undefined;
  /** Resolves when it has ended, for whatever reason. */
  ended: Promise<ChildExit>;
  /** Resolves only if it ends and nobody called `stop`. */
  unexpectedExit: Promise<ChildExit>;
  /** Asks it to end, insists, and resolves when it has ended. */
  stop(): Promise<void>;
}

const lastLinesMax = 20;
/** What was said just before the end may arrive just after it. */
const lastWordsMsMax = 200;

/**
 * Starts a program and records it at once, so that the next start can find it should this process be killed.
 * @throws StartupError if the program can't be run at all.
 */
export async function startChild(options: {
  directory: DataDirectory;
  name: string;
  program: string;
  args: string[];
  env: Record<string, string>;
  runAs: OsUser | undefined;
  endSteps: EndStep[];
  onLine: (line: string) => void;
}): Promise<Child> {
  const { directory, name, program } = options;
  const spawned = spawn(program, options.args, {
    cwd: directory.path,
    env: options.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own: Ctrl-C in the terminal must reach only us, and we stop the children in order.
    detached: true,
    ...(options.runAs && { uid: options.runAs.uid, gid: options.runAs.gid }),
  });
  const { pid } = spawned;
  if (pid === undefined) throw await describeSpawnFailure(spawned, program);
  recordChild(directory, name, pid);
  return supervise(spawned, pid, options);
}

function supervise(spawned: ChildProcess, pid: number, options: Parameters<typeof startChild>[0]): Child {
  const { directory, name } = options;
  const lastLines: string[] = [];
  const hear = (line: string): void => {
    lastLines.push(line);
    if (lastLines.length > lastLinesMax) lastLines.shift();
    options.onLine(line);
  };
  for (const stream of [spawned.stdout, spawned.stderr]) {
    if (stream) createInterface({ input: stream }).on('line', hear);
  }
  let isStopping = false;
  const unexpected = Promise.withResolvers<ChildExit>();
  const ended = Promise.withResolvers<ChildExit>();
  const closed = new Promise<void>((resolve) => spawned.once('close', () => resolve()));
  const finish = async (code: number | null, signal: NodeJS.Signals | null): Promise<void> => {
    await Promise.race([closed, sleep(lastWordsMsMax)]);
    forgetChild(directory, name);
    child.exit = { name, code, signal, lastLines: [...lastLines] };
    ended.resolve(child.exit);
    if (!isStopping) unexpected.resolve(child.exit);
  };
  spawned.once('exit', (code, signal) => void finish(code, signal));
  const hasEnded = (): boolean => spawned.exitCode !== null || spawned.signalCode !== null;
  const child: Child = {
    pid,
    exit: undefined,
    ended: ended.promise,
    unexpectedExit: unexpected.promise,
    async stop() {
      isStopping = true;
      await endProcess({ hasEnded, signal: (signal) => spawned.kill(signal), steps: options.endSteps });
      await ended.promise;
    },
  };
  return child;
}

async function describeSpawnFailure(spawned: ChildProcess, program: string): Promise<unknown> {
  const error = await new Promise<Error>((resolve) => spawned.once('error', resolve));
  return new StartupError(
    `${program} can't be run (${error.message}): install afresh with npm ci on this machine, or set DATABASE_URL and an RPC URL to use your own.`,
  );
}
