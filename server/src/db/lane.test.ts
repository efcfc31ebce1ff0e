import { expect, it } from 'vitest';
import { createLane } from './lane.ts';

/** A lane whose batches end when they are told to. */
function openLane(options: { batchMax: number; underWayMax?: number }) {
  const batches: { jobs: readonly number[]; end(): void }[] = [];
  const begun: (() => void)[] = [];
  const lane = createLane<number, number>({
    ...options,
    run(jobs) {
      const { promise, resolve } = Promise.withResolvers<number[]>();
      batches.push({ jobs, end: () => resolve(jobs.map((job) => job * 2)) });
      begun.shift()?.();
      return promise;
    },
  });
  const nextBatch = () => new Promise<void>((resolve) => begun.push(resolve));
  return { lane, batches, nextBatch };
}

const turn = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

it('gathers callers while a batch is under way', async () => {
  const { lane, batches, nextBatch } = openLane({ batchMax: 10 });
  const began = nextBatch();
  const first = lane.submit(1);
  await began;
  const others = [lane.submit(2), lane.submit(3)];
  await turn();
  expect(batches.map(({ jobs }) => jobs)).toEqual([[1]]);
  const next = nextBatch();
  batches[0]?.end();
  await next;
  batches[1]?.end();
  expect(await Promise.all([first, ...others])).toEqual([2, 4, 6]);
  expect(batches.map(({ jobs }) => jobs)).toEqual([[1], [2, 3]]);
});

it('has as many batches under way as it may, and no more', async () => {
  const { lane, batches, nextBatch } = openLane({ batchMax: 1, underWayMax: 2 });
  const began = [nextBatch(), nextBatch(), nextBatch()];
  const jobs = [1, 2, 3].map((job) => lane.submit(job));
  await began[1];
  await turn();
  expect(batches).toHaveLength(2);
  batches[1]?.end();
  await began[2];
  expect(await jobs[1]).toBe(4);

  let stopped = false;
  const stopping = lane.stop().then(() => (stopped = true));
  batches[2]?.end();
  expect(await jobs[2]).toBe(6);
  await turn();
  expect(stopped).toBe(false);
  batches[0]?.end();
  await stopping;
  expect(await jobs[0]).toBe(2);
});
