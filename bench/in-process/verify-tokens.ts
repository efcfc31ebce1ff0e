import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Look } from '../bench.ts';
import { figure, spread, table } from '../measure/report.ts';
import { median, ratios } from '../measure/statistics.ts';

interface Verifying {
  count: number;
  wallSeconds: number;
  cpuSeconds: number;
}

const libraries = ['credence', 'jose', 'fast-jwt'] as const;
const algorithms = ['RS256', 'ES256'] as const;
const program = fileURLToPath(new URL('../programs/verify-tokens.ts', import.meta.url));
const execute = promisify(execFile);

export const verifyTokens: Look = {
  name: 'verify-tokens',
  title: 'Access tokens verified in process',
  notes: [
    'No HTTP, no database, and nothing remembered of a token: signature, type, issuer, audience and times, each time.',
    'One process each, 500 tokens of ours in turn, 16 in flight. jose verifies on the thread pool; the others on the event loop, one at a time.',
  ],
  windowSeconds: 3,
  async measure({ repetitions, windowSeconds = 3, log }) {
    const tables: string[] = [];
    for (const algorithm of algorithms) {
      const runs = new Map(libraries.map((library) => [library, [] as Verifying[]]));
      for (let repetition = 1; repetition <= repetitions; repetition += 1) {
        for (const library of libraries) {
          const run = await runOnce(library, algorithm, windowSeconds);
          runs.get(library)?.push(run);
          log(
            `verify-tokens ${repetition}/${repetitions}: ${library} ${algorithm} ${figure(wallRate(run))}/s`,
          );
        }
      }
      tables.push(render(algorithm, runs));
    }
    return tables.join('\n\n');
  },
};

async function runOnce(library: string, algorithm: string, seconds: number): Promise<Verifying> {
  const { stdout } = await execute(process.execPath, [program, library, algorithm, String(seconds)]);
  return JSON.parse(stdout) as Verifying;
}

function render(algorithm: string, runs: ReadonlyMap<string, Verifying[]>): string {
  const ours = (runs.get('credence') ?? []).map(cpuRate);
  const heads = [algorithm, 'tokens/s', 'tokens per CPU second', 'Credence / it, by CPU'];
  const rows = [...runs].map(([library, each]) => [
    library === 'credence' ? 'Credence' : library,
    figure(median(each.map(wallRate))),
    spread(each.map(cpuRate)),
    library === 'credence' ? '' : spread(ratios(ours, each.map(cpuRate))),
  ]);
  return table(heads, rows);
}

const wallRate = ({ count, wallSeconds }: Verifying) => count / wallSeconds;
const cpuRate = ({ count, cpuSeconds }: Verifying) => count / cpuSeconds;
