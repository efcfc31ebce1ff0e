import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createThread } from './thread.ts';

let folder = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'credence-thread-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** A thread that doubles numbers, throws at a zero, and ends without a word at a negative one. */
async function openDoubler() {
  const file = join(folder, 'doubler.mjs');
  await writeFile(
    file,
    `import { parentPort } from 'node:worker_threads';
     parentPort.on('message', (jobs) => {
       if (jobs.includes(0)) throw new Error('no zero');
       if (jobs.some((job) => job < 0)) process.exit(3);
       parentPort.postMessage(jobs.map((job) => job * 2));
     });`,
  );
  return createThread<number>(pathToFileURL(file));
}

it('gives the results of its jobs, list by list', async () => {
  const double = await openDoubler();
  expect(await double([1, 2, 3])).toEqual([2, 4, 6]);
  expect(await double([4])).toEqual([8]);
});

it.each([
  ['throws', 0, 'no zero'],
  ['ends', -1, 'a thread ended with code 3'],
])('that %s fails its jobs, and is followed by another', async (_what, job, message) => {
  const double = await openDoubler();
  await expect(double([1, job])).rejects.toThrow(message);
  expect(await double([5])).toEqual([10]);
});
