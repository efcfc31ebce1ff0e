import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { type Loop, startLoop } from './loop.ts';

const loops: Loop[] = [];
afterEach(async () => {
  for (const loop of loops.splice(0)) await loop.stop();
});

const never = 3_600_000;

/** A loop whose runs end when the test says so, each with its own `end`. */
function startHeldLoop(intervalMs = never) {
  const runs: PromiseWithResolvers<void>[] = [];
  const onError = vi.fn<(error: unknown) => void>();
  const run = () => {
    const held = Promise.withResolvers<void>();
    runs.push(held);
    return held.promise;
  };
  const loop = startLoop({ intervalMs, run, onError });
  loops.push({
    ...loop,
    async stop() {
      const stopped = loop.stop();
      for (const held of runs) held.resolve();
      await stopped;
    },
  });
  return { loop, runs, onError };
}

describe('startLoop', () => {
  it('runs at once, and again after each interval', async () => {
    const { runs } = startHeldLoop(20);
    expect(runs).toHaveLength(1);
    runs[0]?.resolve();
    await expect.poll(() => runs.length).toBe(2);
    runs[1]?.resolve();
    await expect.poll(() => runs.length).toBe(3);
  });

  it('waits an interval between runs when nothing wakes it', async () => {
    const { runs } = startHeldLoop(200);
    runs[0]?.resolve();
    await sleep(100);
    expect(runs).toHaveLength(1);
  });

  it('never has two runs at once: the interval counts from the end of a run', async () => {
    const { runs, loop } = startHeldLoop(5);
    loop.wake();
    await sleep(50);
    expect(runs).toHaveLength(1);
  });

  it('runs at once when it is woken', () => {
    const { runs, loop } = startHeldLoop();
    runs[0]?.resolve();
    return vi.waitFor(() => {
      loop.wake();
      expect(runs.length).toBeGreaterThan(1);
    });
  });

  it('runs once more when it is woken during a run, however often', async () => {
    const { runs, loop } = startHeldLoop();
    for (let times = 0; times < 5; times += 1) loop.wake();
    runs[0]?.resolve();
    await expect.poll(() => runs.length).toBe(2);
    runs[1]?.resolve();
    await sleep(50);
    expect(runs).toHaveLength(2);
  });

  it('reports a run that fails, and goes on', async () => {
    const { runs, onError } = startHeldLoop(10);
    const failure = new Error('no luck');
    runs[0]?.reject(failure);
    await expect.poll(() => runs.length).toBe(2);
    expect(onError).toHaveBeenCalledExactlyOnceWith(failure);
  });

  it('reports a run that throws before it has begun to wait, and goes on', async () => {
    const onError = vi.fn<(error: unknown) => void>();
    let runs = 0;
    const run = (): Promise<void> => {
      runs += 1;
      throw new Error('at once');
    };
    loops.push(startLoop({ intervalMs: 10, run, onError }));
    await expect.poll(() => runs).toBeGreaterThan(1);
    expect(onError).toHaveBeenCalledTimes(runs);
  });

  it('stops after the run that is under way, and is not woken any more', async () => {
    const { runs, loop } = startHeldLoop(5);
    let stopped = false;
    const stopping = loop.stop().then(() => {
      stopped = true;
    });
    loop.wake();
    await sleep(20);
    expect(stopped).toBe(false);
    runs[0]?.resolve();
    await stopping;
    loop.wake();
    await sleep(30);
    expect(runs).toHaveLength(1);
  });
});

it('rests between two runs that it is woken for, and forgets no waking', async () => {
  vi.useFakeTimers();
  try {
    const began: number[] = [];
    const start = performance.now();
    const loop = startLoop({
      intervalMs: never,
      restMs: 100,
      async run() {
        began.push(performance.now() - start);
        await new Promise((resolve) => setTimeout(resolve, 10));
      },
      onError: vi.fn<(error: unknown) => void>(),
    });
    loops.push(loop);
    for (let waited = 0; waited < 300; waited += 5) {
      loop.wake();
      await vi.advanceTimersByTimeAsync(5);
    }
    expect(began).toEqual([0, 110, 220]);
    await vi.advanceTimersByTimeAsync(never / 2);
    expect(began).toEqual([0, 110, 220, 330]);
  } finally {
    vi.useRealTimers();
  }
});
