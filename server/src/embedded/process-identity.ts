import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** What tells one process from a later one that was given the same pid. */
export interface ProcessIdentity {
  pid: number;
  /** When it began, in the system's own words; together with the pid it names one process for ever. */
  startToken: string;
  /** Its program and arguments, joined by spaces. Empty while the process is ending. */
  command: string;
}

/** Looks at a process. Undefined if there is none, or if it has ended and only waits for its parent (a zombie). */
export function findProcess(pid: number): ProcessIdentity | undefined {
  return process.platform === 'linux' ? findInProc(pid) : findWithPs(pid);
}

/** The identity of the process that runs this code. */
export function getOwnProcess(): ProcessIdentity {
  const own = findProcess(process.pid);
  if (!own) throw new Error(`process ${process.pid} can't see itself: is /proc mounted?`);
  return own;
}

/** True while the very process that was recorded lives. */
export function isAlive(recorded: ProcessIdentity): boolean {
  return findProcess(recorded.pid)?.startToken === recorded.startToken;
}

/** True while the very process that was recorded lives and still runs the program that we started. */
export function isAliveAndOurs(recorded: ProcessIdentity): boolean {
  const found = findProcess(recorded.pid);
  if (found?.startToken !== recorded.startToken) return false;
  return found.command === recorded.command || found.command === '';
}

function findInProc(pid: number): ProcessIdentity | undefined {
  const stat = readIfThere(`/proc/${pid}/stat`);
  const cmdline = readIfThere(`/proc/${pid}/cmdline`);
  if (stat === undefined || cmdline === undefined) return undefined;
  // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, startTicks] = [fields[0], fields[19]];
  if (startTicks === undefined || state === 'Z' || state === 'X') return undefined;
  // Ticks count from boot, so they name a process only together with the boot.
  const boot = readIfThere('/proc/sys/kernel/random/boot_id')?.trim() ?? '';
  return { pid, startToken: `${boot}/${startTicks}`, command: cmdline.replaceAll('\0', ' ').trim() };
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // The process ended between two looks.
  }
}

function findWithPs(pid: number): ProcessIdentity | undefined {
  let line: string;
  try {
    const args = ['-ww', '-o', 'stat=,lstart=,command=', '-p', String(pid)];
    // A fixed language and time zone: the same process must always get the same token.
    const env = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };
    line = execFileSync('ps', args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return undefined;
  }
  return parsePsLine(pid, line);
}

/** Reads a line of `ps -o stat=,lstart=,command=`. */
export function parsePsLine(pid: number, line: string): ProcessIdentity | undefined {
  const match = /^\s*(\S+)\s+(\w{3}\s+\w{3}\s+\d+\s+[\d:]{8}\s+\d{4})(?:\s+(.*))?$/m.exec(line);
  const [, state, started, command] = match ?? [];
  if (state === undefined || started === undefined || state.startsWith('Z')) return undefined;
  return { pid, startToken: started.replaceAll(/\s+/g, ' '), command: (command ?? '').trim() };
}
