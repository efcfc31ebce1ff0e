import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** What the load generator saw. `good` is every 2xx; those of the window make the rate. */
export interface LoadResult {
  sent: number;
  answered: number;
  good: number;
  bad: number;
  lastBadStatus?: number;
  socketErrors: number;
  windowGood: number;
  windowSeconds: number;
  p50Ms: number;
  p99Ms: number;
  /** The tickets ran out before the window's end. */
  exhausted: boolean;
}

export interface Load {
  url: string;
  headers: Readonly<Record<string, string>>;
  /** Makes every request a POST; not with tickets. */
  body?: string;
  connections: number;
  threads: number;
  /** Of the whole run: ramp, window and drain. */
  seconds: number;
  tickets?: {
    prefix: string;
    header: string;
    perFile: number;
    rampSeconds: number;
    windowSeconds: number;
    /** In all; 0 for as many as are answered. */
    ratePerSecond: number;
  };
}

/** Longer than any answer takes that is still of use: a payment's window. */
const answerTimeout = '60s';

/** Runs wrk once. Throws what it printed where it gave no result. */
export async function runWrk(load: Load): Promise<LoadResult> {
  const child = spawn('wrk', argumentsOf(load), { stdio: ['ignore', 'pipe', 'pipe'] });
  const printed: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => printed.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => printed.push(chunk));
  await once(child, 'close');
  const text = Buffer.concat(printed).toString();
  const result = /^RESULT (.*)$/m.exec(text)?.[1];
  if (result === undefined) throw new Error(`wrk gave no result:\n${text}`);
  return JSON.parse(result) as LoadResult;
}

function argumentsOf({ tickets, threads, connections, seconds, headers, url, body }: Load): string[] {
  const script = fileURLToPath(new URL(tickets ? 'tickets.lua' : 'plain.lua', import.meta.url));
  const options = `-t${threads} -c${connections} -d${seconds}s --timeout ${answerTimeout} -s`.split(' ');
  const heads = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const all = [...options, script, ...heads, url];
  if (!tickets) return body === undefined ? all : [...all, '--', body];
  const ratePerThread = tickets.ratePerSecond / threads;
  const numbers = [tickets.perFile, tickets.rampSeconds, tickets.windowSeconds, ratePerThread];
  return [...all, '--', tickets.prefix, tickets.header, ...numbers.map(String)];
}
