import type { Point } from '../../src/kernel/points.ts';

/*
 * Stands in the place of kernel/points.ts where the program is started with `--conditions=crash-test`. The process that started it says
 * at which point it is to stand still, and is told of each that does.
 */

/** What a test tells a process: whoever reaches this point, after so many have passed it, stands there. Nothing: nobody, from now on. */
export interface Arming {
  at: Point | undefined;
  passing: number;
}

/** What a process tells the test that armed it. */
export interface Reached {
  reached: Point;
}

let armed: Arming = { at: undefined, passing: 0 };
let letGo = Promise.withResolvers<void>();

process.on('message', (arming: Arming) => {
  letGo.resolve();
  letGo = Promise.withResolvers();
  armed = { ...arming };
  process.send?.({ armed: true });
});
// Whoever waits for orders keeps no program from ending.
process.channel?.unref();

/** Stands still at the armed point; what doesn't go this way goes on. */
export function reach(point: Point): Promise<void> | undefined {
  if (point !== armed.at) return undefined;
  if (armed.passing > 0) {
    armed.passing -= 1;
    return undefined;
  }
  process.send?.({ reached: point } satisfies Reached);
  return letGo.promise;
}
