import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** A program that a contender consists of, running and listening. */
export interface Program {
  pid: number;
  /** What `listening` captured. */
  address: string;
  stop(): Promise<void>;
}

const startTimeoutMs = 30_000;

/** Starts a program and waits for the line that tells where it listens: the first group of `listening`. */
export async function startProgram(options: {
  command: string;
  args: readonly string[];
  env?: Readonly<Record<string, string>>;
  listening: RegExp;
}): Promise<Program> {
  const { command, args, env, listening } = options;
  const child = spawn(command, args, {
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  const address = await new Promise<string>((resolve, reject) => {
    const fail = (reason: string) => reject(new Error(`${command} ${reason}:\n${lines.join('\n')}`));
    const timer = setTimeout(() => fail('does not listen'), startTimeoutMs);
    child.once('error', (error) => fail(error.message));
    child.once('exit', () => fail('has ended'));
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        if (lines.length > 50) lines.shift();
        const found = listening.exec(line)?.[1];
        if (found === undefined) return;
        clearTimeout(timer);
        resolve(found);
      });
    }
  });
  return { pid: child.pid ?? 0, address, stop: () => stop(child) };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'exit');
}
