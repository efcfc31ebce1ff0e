import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** `npm run check`: everything about the tree that can be known without running the tests. */
interface Step {
  name: string;
  command: readonly string[];
}

interface Result {
  passed: boolean;
  output: string;
  seconds: number;
}

const root = fileURLToPath(new URL('../', import.meta.url));

// The longest first, so that the others run beside it.
const steps: readonly Step[] = [
  { name: 'types', command: ['tsc', '--noEmit', '-p', '.'] },
  { name: 'lint', command: ['oxlint', '--type-aware', '--deny-warnings'] },
  { name: 'contract', command: ['node', 'server/contracts/compile.ts', '--check'] },
  { name: 'dead code', command: ['knip', '--no-progress'] },
  { name: 'boundaries', command: ['vitest', 'run', 'server/test/boundaries.test.ts'] },
  { name: 'format', command: ['oxfmt', '--check', '.'] },
  { name: 'generated', command: ['node', 'scripts/generate.ts', '--check'] },
];

async function runStep(step: Step): Promise<Result> {
  const startedAt = performance.now();
  const [command = '', ...args] = step.command;
  const path = [join(root, 'node_modules', '.bin'), process.env['PATH']].join(delimiter);
  const child = spawn(command, args, {
    cwd: root,
    env: { ...process.env, PATH: path },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk));
  const { promise, resolve } = Promise.withResolvers<boolean>();
  child.on('error', (error) => {
    chunks.push(Buffer.from(`${command} cannot be run: ${error.message}; "npm ci" installs it\n`));
    resolve(false);
  });
  child.on('close', (code) => resolve(code === 0));
  const passed = await promise;
  const seconds = (performance.now() - startedAt) / 1000;
  return { passed, output: Buffer.concat(chunks).toString(), seconds };
}

/** Takes one step after another until none is left; as many of these run at once as there are cores. */
async function work(waiting: Step[], failed: string[]): Promise<void> {
  for (let step = waiting.shift(); step !== undefined; step = waiting.shift()) {
    const { passed, output, seconds } = await runStep(step);
    console.log(`${passed ? 'ok    ' : 'FAILED'} ${step.name.padEnd(12)}${seconds.toFixed(1).padStart(5)} s`);
    if (passed) continue;
    failed.push(step.name);
    console.log(`${output.trimEnd()}\n`);
  }
}

const failed: string[] = [];
const waiting = [...steps];
await Promise.all(Array.from({ length: availableParallelism() }, () => work(waiting, failed)));
if (failed.length > 0) {
  console.log(`npm run check failed: ${failed.join(', ')}`);
  process.exitCode = 1;
}
