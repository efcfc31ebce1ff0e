import type { CaseResult, Look, Run } from '../bench.ts';
import { median, ratios } from './statistics.ts';

/** A case that gave no figures, and why. */
export interface CaseFailure {
  name: string;
  title: string;
  reason: string;
}

/** The part of RESULTS.md about one case. */
export function renderCase(result: CaseResult): string {
  const { title, notes, connections, windowSeconds, name } = result.case;
  const repetitions = result.contenders[0]?.runs.length ?? 0;
  return [
    `## ${title} (\`${name}\`)`,
    `${connections} connections, ${windowSeconds} s a run, ${repetitions} interleaved ${repetitions === 1 ? 'repetition' : 'repetitions'}.`,
    notes.map((note) => `- ${note}`).join('\n'),
    renderFigures(result),
    renderCpu(result),
    ...renderGas(result),
    ...renderRatios(result),
    ...renderDisturbed(result),
  ].join('\n\n');
}

/** The part of RESULTS.md about a measurement that is no load; its tables are made already. */
export function renderLook(
  { name, title, notes, windowSeconds }: Look,
  repetitions: number,
  tables: string,
): string {
  const times = `${repetitions} interleaved ${repetitions === 1 ? 'repetition' : 'repetitions'}`;
  return [
    `## ${title} (\`${name}\`)`,
    ...(windowSeconds === undefined ? [] : [`${windowSeconds} s a run, ${times}.`]),
    notes.map((note) => `- ${note}`).join('\n'),
    tables,
  ].join('\n\n');
}

export function renderFailure({ name, title, reason }: CaseFailure): string {
  return `## ${title} (\`${name}\`)\n\nNo figures: ${reason}.`;
}

function renderFigures({ contenders }: CaseResult): string {
  return table(
    ['', 'calls/s, median (min–max)', 'p50 ms', 'p99 ms', 'calls', 'not 2xx'],
    contenders.map(({ name, runs }) => {
      const rates = runs.map(rateOf);
      return [
        name,
        `${figure(median(rates))} (${figure(Math.min(...rates))}–${figure(Math.max(...rates))})`,
        figure(median(runs.map(({ load }) => load.p50Ms))),
        figure(median(runs.map(({ load }) => load.p99Ms))),
        sum(runs.map(({ load }) => load.good)).toLocaleString('en'),
        sum(runs.map(({ load }) => load.bad)).toLocaleString('en'),
      ];
    }),
  );
}

function renderCpu({ contenders }: CaseResult): string {
  const roles = [
    ...new Set(contenders.flatMap(({ runs }) => runs.flatMap(({ cpuSeconds }) => [...cpuSeconds.keys()]))),
  ];
  const rows = contenders.map(({ name, runs }) => [
    name,
    ...roles.map((role) => {
      const values = runs.flatMap((run) => cpuPerThousand(run, role) ?? []);
      return values.length === 0 ? '–' : figure(median(values));
    }),
  ]);
  return `CPU seconds per 1,000 calls, by process:\n\n${table(['', ...roles], rows)}`;
}

function renderGas({ contenders }: CaseResult): string[] {
  const rows = contenders.flatMap(({ name, runs }) => {
    const spent = runs.flatMap(({ gas, load }) =>
      gas ? { each: Number(gas.used) / load.good, ...gas } : [],
    );
    if (spent.length === 0) return [];
    const limits = spent.map(({ limitMax }) => Number(limitMax));
    return [[name, spread(spent.map(({ each }) => each)), Math.max(...limits).toLocaleString('en')]];
  });
  return rows.length === 0
    ? []
    : [table(['', 'gas a settlement, median (min–max)', 'highest gas limit of a transaction'], rows)];
}

/** Nothing where there is nobody to compare with. */
function renderRatios({ contenders }: CaseResult): string[] {
  const [ours, ...peers] = contenders;
  if (!ours || peers.length === 0) return [];
  const rows = peers.map(({ name, runs }) => [
    `Credence / ${name}`,
    spread(ratios(ours.runs.map(rateOf), runs.map(rateOf))),
    spread(
      ratios(
        ours.runs.map(({ load }) => load.p50Ms),
        runs.map(({ load }) => load.p50Ms),
      ),
    ),
    spread(ratios(ours.runs.map(ownCpuPerThousand), runs.map(ownCpuPerThousand))),
  ]);
  const heads = [
    'median (min–max), by repetition',
    'calls/s',
    'p50',
    'CPU a call, generator and upstream apart',
  ];
  return [table(heads, rows)];
}

/** A machine that is shared says so. */
function renderDisturbed({ contenders }: CaseResult): string[] {
  const lines = contenders.flatMap(({ name, runs }) =>
    runs.flatMap(({ otherCores }, index) =>
      otherCores > 0.3 ? [`${name} ${index + 1} (${otherCores.toFixed(2)})`] : [],
    ),
  );
  return lines.length === 0
    ? []
    : [`Runs beside which something else used more than 0.3 cores: ${lines.join(', ')}.`];
}

function rateOf({ load }: Run): number {
  return load.windowGood / load.windowSeconds;
}

function cpuPerThousand({ cpuSeconds, load }: Run, role: string): number | undefined {
  const seconds = cpuSeconds.get(role);
  return seconds === undefined ? undefined : (seconds / (load.good + load.bad)) * 1000;
}

/** Of the contender itself: server, database and chain. */
function ownCpuPerThousand(run: Run): number {
  const roles = [...run.cpuSeconds.keys()].filter((role) => role !== 'generator' && role !== 'upstream');
  return sum(roles.map((role) => cpuPerThousand(run, role) ?? 0));
}

/** The median, with the least and the most. */
export function spread(values: readonly number[]): string {
  if (values.length === 0) return '–';
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return `${figure(median(values))} (${figure(low)}–${figure(high)})`;
}

/** A number in three digits: the host drifts by more than the fourth says. */
export function figure(value: number): string {
  if (value >= 1000) return (Math.round(value / 10) * 10).toLocaleString('en');
  return Number(value.toPrecision(3)).toString();
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

/** A table in Markdown. */
export function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  return [heads, heads.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
