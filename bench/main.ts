import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  CallsLost,
  type Case,
  type CaseResult,
  CheckFailed,
  joinResults,
  type Look,
  type Stage,
} from './bench.ts';
import { cases } from './cases/index.ts';
import { describeMachine, describeVersions, findMissing } from './measure/machine.ts';
import { summariseProfiles } from './measure/profile.ts';
import { renderCase, renderFailure, renderLook } from './measure/report.ts';
import { runCase } from './measure/run-case.ts';

const resultsFile = new URL('RESULTS.md', import.meta.url);

const usage = `npm run bench -- [--quick] [--repetitions n] [--profile] [case …]
  cases: ${cases.map(({ name }) => name).join(', ')}; all of them unless named
  --quick        short runs, for a look; RESULTS.md is not written
  --repetitions  runs of each contender, in turn (3)
  --profile      profiles our server while it runs, and prints where its time went; RESULTS.md is not written
  RESULTS.md is written by a whole bench: all cases, full length, no profile.`;

const ourName = 'Credence';
const peerLossesMax = 3;

interface Settings {
  chosen: readonly (Case | Look)[];
  repetitions: number;
  quick: boolean;
  profile: boolean;
}

function readSettings(): Settings {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      profile: { type: 'boolean', default: false },
      repetitions: { type: 'string' },
    },
  });
  const unknown = positionals.find((name) => !cases.some((one) => one.name === name));
  const repetitions = Number(values.repetitions ?? (values.quick || values.profile ? 1 : 3));
  if (unknown !== undefined || !Number.isInteger(repetitions) || repetitions < 1) throw new Error(usage);
  const chosen = cases.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
  return {
    chosen: values.quick ? chosen.map(shorten) : chosen,
    repetitions,
    quick: values.quick,
    profile: values.profile,
  };
}

/** A window that is still a whole number of 2 s blocks. */
function shorten(one: Case | Look): Case | Look {
  if ('measure' in one) return one.windowSeconds === undefined ? one : { ...one, windowSeconds: 1 };
  return { ...one, windowSeconds: 4, warmUpSeconds: Math.min(one.warmUpSeconds, 4) };
}

function log(line: string): void {
  console.log(line);
}

/** Runs one case on a stage of its own, and gives its part of the results. */
async function play(one: Case | Look, settings: Settings): Promise<string> {
  const { repetitions } = settings;
  const folder = await mkdtemp(join(tmpdir(), 'credence-bench-'));
  await chmod(folder, 0o755); // nginx's worker is another user.
  const profiles = join(folder, 'profiles');
  await mkdir(profiles);
  const endings: (() => Promise<unknown>)[] = [];
  const stage: Stage = {
    folder,
    environment: settings.profile ? { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profiles}` } : {},
    defer: (end) => endings.push(end),
  };
  const endAll = async () => {
    for (let end = endings.pop(); end; end = endings.pop()) await end();
  };
  const interrupted = () => void endAll().finally(() => process.exit(130));
  process.once('SIGINT', interrupted);
  try {
    if ('measure' in one)
      return renderLook(
        one,
        repetitions,
        await one.measure({ windowSeconds: one.windowSeconds, repetitions, stage, log }),
      );
    const results: CaseResult[] = [];
    const lost: CallsLost[] = [];
    const rounds = one.startsAfresh ? Array<number>(repetitions).fill(1) : [repetitions];
    while (results.length < rounds.length) {
      const result = await runOrLose(one, { repetitions: rounds[results.length] ?? 1, stage, log });
      await endAll();
      if (!(result instanceof CallsLost)) results.push(result);
      else if (lost.push(result) > peerLossesMax) throw result;
    }
    if (settings.profile) log(await summariseProfiles(profiles));
    return renderCase(withLosses(joinResults(results), lost));
  } catch (error) {
    if (!(error instanceof CheckFailed)) throw error;
    process.exitCode = 1;
    return renderFailure({ name: one.name, title: one.title, reason: error.message });
  } finally {
    await endAll();
    process.removeListener('SIGINT', interrupted);
    await rm(folder, { recursive: true, force: true });
  }
}

/** A peer that leaves calls unanswered for good begins anew with its repetition. We don't: what we lose is a failure. */
async function runOrLose(one: Case, options: Parameters<typeof runCase>[1]): Promise<CallsLost | CaseResult> {
  try {
    return await runCase(one, options);
  } catch (error) {
    if (!(error instanceof CallsLost) || !one.startsAfresh || error.contender === ourName) throw error;
    options.log(`${one.name}: once more, as ${error.message}`);
    return error;
  }
}

function withLosses(result: CaseResult, lost: readonly CallsLost[]): CaseResult {
  const notes = lost.map(({ message }) => `Left out is a repetition that was begun anew, as ${message}.`);
  return { ...result, case: { ...result.case, notes: [...result.case.notes, ...notes] } };
}

async function main(): Promise<void> {
  const missing = findMissing();
  if (missing !== undefined) throw new Error(missing);
  const settings = readSettings();
  const parts: string[] = [];
  for (const one of settings.chosen) parts.push(await play(one, settings));
  const text = `${[renderHead(settings), ...parts].join('\n\n')}\n`;
  log(`\n${text}`);
  if (settings.chosen.length === cases.length && !settings.quick && !settings.profile)
    await writeFile(resultsFile, text);
}

function renderHead(settings: Settings): string {
  const command = ['npm run bench', ...(process.argv.length > 2 ? ['--', ...process.argv.slice(2)] : [])];
  return [
    '# Bench results',
    [
      `- Date: ${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`,
      `- Machine: ${describeMachine()}`,
      `- Versions: ${describeVersions()}`,
      `- Command: \`${command.join(' ')}\`${settings.quick ? ' (short runs: a look, no measurement)' : ''}`,
    ].join('\n'),
    'Everything runs on this machine, load generator included, nothing pinned. Contenders take turns, and ratios are taken within a repetition, ' +
      "because a host's speed drifts. CPU is that of whole process trees over whole runs, from /proc. Differences under 25 % are not established.",
  ].join('\n\n');
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
