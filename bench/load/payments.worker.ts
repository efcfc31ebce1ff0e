import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { type SigningJob, signPayments } from './payments.ts';

const job = workerData as SigningJob;
const file = createWriteStream(job.file);
for (const payment of signPayments(job, Math.floor(Date.now() / 1000))) {
  if (!file.write(`${payment}\n`)) await once(file, 'drain');
}
file.end();
await once(file, 'close');
