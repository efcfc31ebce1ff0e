import { createServer, request, type ServerResponse } from 'node:http';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { EnvironmentId } from '../../server/src/kernel/ids.ts';
import { sell } from '../../server/test/helpers/seller.ts';
import { CheckFailed, type Look, type Stage } from '../bench.ts';
import { startCredence } from '../contenders/credence.ts';
import { openCreditOffice } from '../load/credit-office.ts';
import { openPaymentOffice } from '../load/payment-office.ts';
import { openContext } from './paid-credits.ts';
import { figure, table } from '../measure/report.ts';
import { median } from '../measure/statistics.ts';

/** One way to be answered, and what each call carries beside its agent's name. */
interface Way {
  name: string;
  url: string;
  headers(): Record<string, string>;
  /** From when the upstream wrote its first byte to when the client had it. */
  delaysMs: number[];
}

const calls = 200;

export const firstByte: Look = {
  name: 'first-byte',
  title: 'The first event of a stream',
  notes: [
    `One client, ${calls} calls of each kind in turn. The upstream and the client are one process, so that one clock tells when the first byte was written and when it came.`,
    'Settled on chain: the stream is let go once its payment is settled; the same endpoint with an answer that is kept waits for the same settlement, and stands beside it.',
  ],
  measure,
};

async function measure({ stage }: { stage: Stage }): Promise<string> {
  const upstream = await startUpstream(stage);
  const ways = await openWays(stage, upstream.url);
  for (let call = 0; call < calls; call += 1) {
    for (const way of ways) way.delaysMs.push((await timeFirstByte(way)) - upstream.wroteAtMs());
  }
  return table(
    ['first byte after the upstream’s, ms', 'median', 'p90', 'p99'],
    ways.map(({ name, delaysMs }) => {
      const sorted = delaysMs.toSorted((left, right) => left - right);
      const at = (share: number) => figure(sorted[Math.floor(share * (sorted.length - 1))] ?? Number.NaN);
      return [name, figure(median(delaysMs)), at(0.9), at(0.99)];
    }),
  );
}

async function openWays(stage: Stage, upstreamUrl: string): Promise<Way[]> {
  const { sold, instance, headers } = await startCredence(stage, { upstreamUrl });
  const optimistic = await sell(instance, upstreamUrl, 'optimistic', { settlement: 'optimistic' });
  const hosted = await sell(instance, upstreamUrl, 'credits', { hosted: true });
  const onChain = (url: string) => openPaymentOffice({ url, headers, rpcUrl: instance.info.rpc_url });
  const inCredits = async (url: string) => {
    const seller = instance.info.environment_id as EnvironmentId;
    return openCreditOffice({
      url,
      headers,
      context: await openContext(stage, instance),
      seller,
      payers: 20,
    });
  };
  const paid = async (name: string, url: string, open: typeof inCredits = onChain): Promise<Way> => {
    const office = await open(url);
    const file = join(stage.folder, name.replaceAll(/\W+/g, '-'));
    await office.write([file], calls);
    const tickets = (await readFile(file, 'utf8')).split('\n');
    return {
      name,
      url,
      headers: () => ({ ...headers, [office.header]: tickets.pop() || (tickets.pop() ?? '') }),
      delaysMs: [],
    };
  };
  return [
    { name: 'direct', url: `${upstreamUrl}/v1/free`, headers: () => ({}), delaysMs: [] },
    { name: 'free', url: `${sold.url}/free`, headers: () => headers, delaysMs: [] },
    await paid('optimistic', `${optimistic.url.replace('localhost', '127.0.0.1')}/paid`),
    await paid('in credits', `${hosted.url.replace('localhost', '127.0.0.1')}/paid`, inCredits),
    await paid('settled on chain', `${sold.url}/paid`),
    await paid('settled on chain, kept', `${sold.url}/paid/kept`),
  ];
}

async function timeFirstByte({ name, url, headers }: Way): Promise<number> {
  const call = request(url, { headers: headers() });
  call.end();
  const [response] = await once(call, 'response');
  await once(response, 'data');
  const atMs = performance.now();
  response.resume();
  if (!response.readableEnded) await once(response, 'end');
  if (response.statusCode !== 200) throw new CheckFailed(`${name} answered ${response.statusCode}`);
  return atMs;
}

/** Answers each call with one event and, a moment later, its end. */
async function startUpstream(stage: Stage): Promise<{ url: string; wroteAtMs(): number }> {
  let wroteAtMs = 0;
  const send = (response: ServerResponse) => {
    wroteAtMs = performance.now();
    response.write('data: 1\n\n');
    setTimeout(() => response.end(), 5);
  };
  const server = createServer((call, response) => {
    if (!call.url?.endsWith('/kept')) response.setHeader('content-type', 'text/event-stream');
    send(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stage.defer(async () => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, wroteAtMs: () => wroteAtMs };
}
