import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { askTerms, encode } from '../../server/test/helpers/payer.ts';
import { show } from './ground.ts';

const events = 10;
const pauseMs = 100;

// An event stream is kept back until it has ended and was settled: the first event comes after the last.
await show(async ({ seller, upstream, newPayer }) => {
  const times = { first: 0, last: 0 };
  upstream.behave((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    void (async () => {
      for (let index = 0; index < events; index++) {
        response.write(`data: ${index}\n\n`);
        times.last = performance.now();
        times.first ||= times.last;
        await sleep(pauseMs);
      }
      response.end();
    })();
  });
  const url = `${seller.url}/paid`;
  const payment = await (await newPayer()).pay(await askTerms(url));
  const arrived = await firstByteAt(url, encode(payment));
  const afterMs = Math.round(arrived - times.first);
  return {
    shown: arrived > times.last,
    saw: `${events} events, one each ${pauseMs} ms: the first reached the client ${afterMs} ms after the upstream had sent it, ${arrived > times.last ? 'when the upstream had sent the last' : 'before the upstream had sent the last'}.`,
  };
});

async function firstByteAt(url: string, payment: string): Promise<number> {
  const sent = request(url, { headers: { 'payment-signature': payment }, agent: false }).end();
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const ended = once(response, 'end');
  await once(response, 'data');
  const at = performance.now();
  await ended;
  if (response.statusCode !== 200) throw new Error(`the stream was answered with ${response.statusCode}`);
  return at;
}
