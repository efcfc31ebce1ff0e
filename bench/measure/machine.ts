import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** Programs that npm doesn't bring, and what brings them. */
const needed = { wrk: 'wrk', nginx: 'nginx-light' };

/** What is missing to run a bench, as one line with the cure; nothing where all is there. */
export function findMissing(): string | undefined {
  const missing = Object.entries(needed).filter(([program]) => !isInstalled(program));
  if (process.platform !== 'linux')
    return 'the bench reads CPU times from /proc, so it runs on Linux only: use a container';
  if (missing.length === 0) return undefined;
  const names = missing.map(([program]) => program).join(' and ');
  const packages = missing.map(([, packageName]) => packageName).join(' ');
  return `${names} not found; on Debian and Ubuntu: apt-get install --no-install-recommends ${packages}`;
}

function isInstalled(program: string): boolean {
  try {
    execFileSync(program, ['-v'], { stdio: 'ignore' });
    return true;
  } catch (error) {
    // wrk tells its version and fails.
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}

/** The machine in one line. */
export function describeMachine(): string {
  const model = cpus()[0]?.model ?? 'unknown CPU';
  const memory = Math.round(totalmem() / 2 ** 30);
  return `${model}, ${cpus().length} cores, ${memory} GiB, Linux ${release()}`;
}

/** Versions of what was measured, in one line. */
export function describeVersions(): string {
  const packages = ['@x402/express', '@x402/evm', 'express', '@fastify/reply-from', 'viem'];
  return [
    `Credence ${describeTree()}`,
    `Node ${process.versions.node}`,
    ...packages.map((name) => `${name} ${versionOf(name)}`),
    programVersion('nginx', /nginx\/(\S+)/),
    programVersion('wrk', /wrk (\S+)/),
  ].join(', ');
}

function describeTree(): string {
  try {
    const commit = git('rev-parse', '--short', 'HEAD');
    return git('status', '--porcelain', '--', 'server') === '' ? commit : `${commit} with changes`;
  } catch {
    return 'outside a repository';
  }
}

function git(...args: string[]): string {
  return execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8', stdio: 'pipe' }).trim();
}

function versionOf(name: string): string {
  const file = require.resolve
    .paths(name)
    ?.map((folder) => `${folder}/${name}/package.json`)
    .find((path) => canRead(path));
  if (file === undefined) return '?';
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

function canRead(path: string): boolean {
  try {
    readFileSync(path);
    return true;
  } catch {
    return false;
  }
}

function programVersion(program: string, pattern: RegExp): string {
  let text: string;
  try {
    text = execFileSync('/bin/sh', ['-c', `${program} -v 2>&1; true`], { encoding: 'utf8' });
  } catch {
    text = '';
  }
  return `${program} ${pattern.exec(text)?.[1] ?? '?'}`;
}
