import { join } from 'node:path';
import {
  CallsLost,
  type Case,
  type CaseResult,
  CheckFailed,
  type Contender,
  type Run,
  type Stage,
} from '../bench.ts';
import { type LoadResult, runWrk } from '../load/wrk.ts';
import { buriedSeconds, busySeconds, cpuByRole, readProcesses } from './cpu.ts';

/** What a first warm-up is given; the rates that it shows decide from then on. */
const firstRateGuess = 400;
const reserve = 1.6;
/** Tickets in a file that `tickets.lua` keeps back, for connections between two steps. */
const sparePerThread = 256;

/** Runs a case: each contender warmed up, then all of them in turn, `repetitions` times. */
export async function runCase(
  chosen: Case,
  options: { repetitions: number; stage: Stage; log: (line: string) => void },
): Promise<CaseResult> {
  const { stage, log } = options;
  const contenders = await chosen.start(stage);
  const rate = chosen.ratePerSecond ?? firstRateGuess;
  const sides = contenders.map((contender) => ({ contender, rate, runs: [] as Run[] }));
  for (const side of sides) {
    const { load } = await runOnce(chosen, side, stage, chosen.warmUpSeconds);
    side.rate = Math.max(1, load.good / chosen.warmUpSeconds);
    log(`${chosen.name}: ${side.contender.name} warmed up, ${describe(load)}`);
  }
  for (let repetition = 1; repetition <= options.repetitions; repetition++) {
    for (const side of sides) {
      const run = await runFully(chosen, side, stage);
      side.runs.push(run);
      log(
        `${chosen.name} ${repetition}/${options.repetitions}: ${side.contender.name} ${describe(run.load)}`,
      );
    }
  }
  return {
    case: chosen,
    contenders: sides.map(({ contender, runs }) => ({ name: contender.name, runs })),
  };
}

interface Side {
  contender: Contender;
  /** Requests a second, as far as seen: how many tickets a run may need. */
  rate: number;
}

/** A run whose tickets lasted. */
async function runFully(chosen: Case, side: Side, stage: Stage): Promise<Run> {
  for (let attempt = 0; attempt < 5; attempt++) {
    const run = await runOnce(chosen, side, stage, chosen.windowSeconds);
    if (!run.load.exhausted) {
      side.rate = Math.max(side.rate, run.load.windowGood / run.load.windowSeconds);
      return run;
    }
    side.rate *= 2;
  }
  throw new CheckFailed(`${side.contender.name}: more payments were used than could be signed`);
}

async function runOnce(chosen: Case, side: Side, stage: Stage, windowSeconds: number): Promise<Run> {
  const { contender } = side;
  const { tickets } = contender;
  const prefix = join(stage.folder, 'tickets');
  const { threads, connections, rampSeconds } = chosen;
  const seconds = windowSeconds + (tickets ? rampSeconds + chosen.drainSeconds : 0);
  const perFile =
    Math.ceil((side.rate * reserve * (rampSeconds + windowSeconds) + connections) / threads) + sparePerThread;
  const files = Array.from({ length: threads }, (_, index) => `${prefix}.${index + 1}`);
  await tickets?.write(files, perFile * threads);

  const chargedBefore = await tickets?.countCharged?.();
  await tickets?.readGas?.();
  const before = observe(contender);
  const load = await runWrk({
    url: contender.url,
    headers: contender.headers ?? {},
    ...(contender.body === undefined ? {} : { body: contender.body }),
    connections,
    threads,
    seconds,
    ...(tickets
      ? {
          tickets: {
            prefix,
            header: tickets.header,
            perFile,
            rampSeconds,
            windowSeconds,
            ratePerSecond: chosen.ratePerSecond ?? 0,
          },
        }
      : {}),
  });
  const after = observe(contender);
  const charged = await tickets?.countCharged?.();
  const gas = await tickets?.readGas?.();
  checkBooks(contender.name, load, charged === undefined ? undefined : charged - (chargedBefore ?? 0));
  return compare(before, after);

  function compare(start: Observation, end: Observation): Run {
    const cpuSeconds = new Map(
      [...end.cpu].map(([role, value]) => [role, value - (start.cpu.get(role) ?? 0)] as const),
    );
    const accounted = [...cpuSeconds.values()].reduce((sum, value) => sum + value, 0);
    const otherCores = Math.max(0, (end.busy - start.busy - accounted) / ((end.atMs - start.atMs) / 1000));
    return { load, cpuSeconds, otherCores, ...(gas ? { gas } : {}) };
  }
}

type Observation = { cpu: Map<string, number>; busy: number; atMs: number };

function observe(contender: Contender): Observation {
  const cpu = cpuByRole(readProcesses(), contender.roots);
  cpu.set('generator', buriedSeconds());
  return { cpu, busy: busySeconds(), atMs: performance.now() };
}

/** A figure counts only if every call was answered, and if exactly the good ones were charged. */
function checkBooks(name: string, load: LoadResult, charged: number | undefined): void {
  if (load.good === 0) throw new CheckFailed(`${name}: no call succeeded (${describe(load)})`);
  if (charged === undefined) {
    if (load.socketErrors > 0) throw new CheckFailed(`${name}: ${load.socketErrors} connections failed`);
    return;
  }
  // A server may close connections that idle while the last answers are waited for; a call that was cut off shows here.
  if (load.sent !== load.answered) throw new CallsLost(name, load);
  if (charged !== load.good)
    throw new CheckFailed(`${name}: ${load.good} calls succeeded and ${charged} were charged`);
}

function describe(load: LoadResult): string {
  const rate = (load.windowGood / load.windowSeconds).toFixed(1);
  const bad = load.bad > 0 ? `, ${load.bad} not 2xx (last ${load.lastBadStatus ?? '?'})` : '';
  return `${rate}/s, p50 ${load.p50Ms.toFixed(1)} ms, p99 ${load.p99Ms.toFixed(1)} ms${bad}`;
}
