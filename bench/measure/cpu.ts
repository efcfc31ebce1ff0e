import { readdirSync, readFileSync } from 'node:fs';

/** One process, as /proc/<pid>/stat has it (proc_pid_stat(5)). */
export interface ProcessCpu {
  pid: number;
  parent: number;
  name: string;
  /** utime + stime of itself and of the children that it has buried. */
  seconds: number;
}

/** USER_HZ: 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

/** Reads a line of /proc/<pid>/stat. The name may hold spaces and brackets: the last bracket ends it. */
export function parseStat(line: string): ProcessCpu {
  const open = line.indexOf('(');
  const close = line.lastIndexOf(')');
  const fields = line.slice(close + 2).split(' ');
  // Fields 14 to 17 of the manual: utime, stime, cutime, cstime; the third stands first here.
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return {
    pid: Number(line.slice(0, open)),
    parent: Number(fields[1]),
    name: line.slice(open + 1, close),
    seconds: ticks / ticksPerSecond,
  };
}

/** CPU seconds by role, of the roots' process trees. A time that a dead child used has gone to its parent. */
export function cpuByRole(
  processes: readonly ProcessCpu[],
  roots: Readonly<Record<string, number>>,
): Map<string, number> {
  const children = Map.groupBy(processes, ({ parent }) => parent);
  const byPid = new Map(processes.map((one) => [one.pid, one]));
  const seconds = new Map<string, number>();
  const walk = (one: ProcessCpu, inherited: string): void => {
    const role = roleOf(one.name) ?? inherited;
    seconds.set(role, (seconds.get(role) ?? 0) + one.seconds);
    for (const child of children.get(one.pid) ?? []) walk(child, role);
  };
  for (const [role, pid] of Object.entries(roots)) {
    const root = byPid.get(pid);
    if (!root) throw new Error(`${role} (pid ${pid}) has ended`);
    walk(root, role);
  }
  return seconds;
}

function roleOf(name: string): string | undefined {
  if (name.startsWith('postgres')) return 'postgres';
  return name.startsWith('anvil') ? 'chain' : undefined;
}

export function readProcesses(): ProcessCpu[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [parseStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))];
      } catch {
        return []; // It has ended since.
      }
    });
}

/** CPU seconds of the children that this process has buried: after a run of the load generator, that one's. */
export function buriedSeconds(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / ticksPerSecond;
}

/** Seconds that all cores together were busy since the machine started. */
export function busySeconds(): number {
  const [, ...fields] = (readFileSync('/proc/stat', 'utf8').split('\n')[0] ?? '').trim().split(/\s+/);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = fields.map(Number);
  return (user + nice + system + irq + softirq) / ticksPerSecond;
}
