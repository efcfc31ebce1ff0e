import type { Point } from '../../src/kernel/points.ts';

/*
 * Stands in the place of kernel/points.ts where the program is started with `--conditions=crash-test`. The process that started it says
 * at which point it is to stand still, and is told of each that does.
 */

/** What a test tells a process: from now on whoever reaches this point stands there; nothing: nobody does. */
export interface Arming {
  at: Point | undefined;
  /** What becomes of those who stand where it was armed for last. The others stay. */
  last: 'go' | 'stay';
}

/** What a process tells the test that armed it. */
export type Told = { armed: true } | { reached: Point };

let armedAt: Point | undefined;
let gate = Promise.withResolvers<void>();

process.on('message', ({ at, last }: Arming) => {
  if (last === 'go') gate.resolve();
  gate = Promise.withResolvers();
  armedAt = at;
  tell({ armed: true });
});
// A test that is cut off leaves nothing behind.
process.once('disconnect', () => process.kill(process.pid, 'SIGKILL'));
// Whoever waits for orders keeps no program from ending.
process.channel?.unref();

/** Stands still at the armed point; what doesn't go this way goes on. */
export function reach(point: Point): Promise<void> | undefined {
  if (point !== armedAt) return undefined;
  tell({ reached: point });
  return gate.promise;
}

function tell(told: Told): void {
  process.send?.(told);
}
