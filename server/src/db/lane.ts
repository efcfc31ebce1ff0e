import { setTimeout as sleep } from 'node:timers/promises';
import { assert } from '../kernel/assert.ts';
import { isRefused } from './tables.ts';

/** Concurrent callers' jobs, gathered into batches. */
export interface Lane<Job, Result> {
  /**
   * Resolves with the job's own result once its batch is committed. Rejects where that failed or isn't known: the job may have
   * been done, so that giving it again must be safe.
   */
  submit(job: Job): Promise<Result>;
  /** Refuses what comes from now on, and resolves when all that came before has its answer. */
  stop(): Promise<void>;
}

interface Waiting<Job, Result> {
  job: Job;
  resolve: (result: Result) => void;
  reject: (error: unknown) => void;
}

interface LaneOptions<Job, Result> {
  batchMax: number;
  /** What a job brings to its batch, where that differs: a batch is a statement, and holds it all in memory, several times over. */
  size?: { of(job: Job): number; max: number };
  /** Under load, batches begin no sooner than this after one another, so that each brings more. Who comes alone doesn't wait. */
  intervalMs?: number;
  /** How many batches may be under way at once, so that one is decided while the one before it commits. */
  underWayMax?: number;
  run(jobs: readonly Job[]): Promise<readonly Result[]>;
}

/**
 * A lane over `run`, which does a batch of jobs in one transaction and gives a result for each, in the order of their arrival.
 * While one batch runs, callers gather for the next, so that a batch is as large as the load makes it.
 */
export function createLane<Job, Result>(options: LaneOptions<Job, Result>): Lane<Job, Result> {
  const queue: Waiting<Job, Result>[] = [];
  let draining: Promise<void> | undefined;
  const underWay = new Set<Promise<void>>();
  let stopped = false;
  let beganMs = -Infinity;
  let lastSize = 0;

  async function drain(): Promise<void> {
    while (queue.length > 0) {
      const restMs = (options.intervalMs ?? 0) - (performance.now() - beganMs);
      // Callers of the same turn of the event loop come along.
      const hasCompany = queue.length > 1 || lastSize > 1;
      if (restMs > 1 && hasCompany && queue.length < options.batchMax) await sleep(restMs);
      else await new Promise((resolve) => setImmediate(resolve));
      if (underWay.size >= (options.underWayMax ?? 1)) await Promise.race(underWay);
      beganMs = performance.now();
      const batch = queue.splice(0, countNext(queue, options));
      lastSize = batch.length;
      const run = runBatch(batch, options).finally(() => underWay.delete(run));
      underWay.add(run);
    }
    draining = undefined;
  }

  return {
    submit(job) {
      assert(!stopped, 'nothing is submitted to a lane that was stopped');
      const { promise, resolve, reject } = Promise.withResolvers<Result>();
      queue.push({ job, resolve, reject });
      draining ??= drain();
      return promise;
    },
    async stop() {
      stopped = true;
      await draining;
      await Promise.all(underWay);
    },
  };
}

/** How many of those that wait go together; the first goes whatever its size. */
function countNext<Job>(
  queue: readonly Pick<Waiting<Job, never>, 'job'>[],
  { batchMax, size }: Pick<LaneOptions<Job, never>, 'batchMax' | 'size'>,
): number {
  if (!size) return batchMax;
  let sum = 0;
  const end = queue.findIndex(({ job }, index) => (sum += size.of(job)) > size.max && index > 0);
  return end < 0 ? batchMax : Math.min(end, batchMax);
}

async function runBatch<Job, Result>(
  batch: readonly Waiting<Job, Result>[],
  options: Pick<LaneOptions<Job, Result>, 'run'>,
): Promise<void> {
  try {
    const results = await options.run(batch.map(({ job }) => job));
    assert(results.length === batch.length, 'each job has a result');
    batch.forEach(({ resolve }, index) => resolve(results[index] as Result));
  } catch (error) {
    // One job that PostgreSQL refuses to store must not fail its neighbours.
    if (batch.length > 1 && isRefused(error)) for (const one of batch) await runBatch([one], options);
    else for (const { reject } of batch) reject(error);
  }
}
