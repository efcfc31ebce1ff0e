import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

/**
 * A thread that works for the event loop: `file` answers each message, which is a list of jobs, with the list of their results. Give it
 * one list at a time, as a lane does: handing over costs microseconds, whatever the list's length, where the thread pool's cost them for
 * each job. Begins with its first jobs, and keeps no process alive. Where it dies, its jobs fail, and the next ones get another.
 */
export function createThread<Result>(file: URL): (jobs: readonly unknown[]) => Promise<Result[]> {
  let worker: Worker | undefined;

  function open(): Worker {
    const opened = new Worker(file);
    opened.on('error', () => (worker = undefined));
    // One that ends without an error answers nobody either.
    opened.on('exit', (code) => opened.emit('error', new Error(`a thread ended with code ${code}`)));
    return opened;
  }

  return async (jobs) => {
    const thread = (worker ??= open());
    thread.ref();
    const answer = once(thread, 'message');
    thread.postMessage(jobs);
    const [results] = (await answer) as [Result[]];
    thread.unref();
    return results;
  };
}
