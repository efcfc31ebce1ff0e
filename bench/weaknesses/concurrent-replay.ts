import { setTimeout as sleep } from 'node:timers/promises';
import { askTerms, sendPaid } from '../../server/test/helpers/payer.ts';
import { show } from './ground.ts';

const copies = 20;

// Whoever sends one payment many times at once gets the seller's work many times.
await show(async ({ seller, upstream, newPayer, countCharges }) => {
  upstream.behave((_request, response) => void sleep(200).then(() => response.end('work')));
  const url = `${seller.url}/paid`;
  const payment = await (await newPayer()).pay(await askTerms(url));
  const answers = await Promise.all(Array.from({ length: copies }, () => sendPaid(url, payment)));
  const runs = upstream.requests.length;
  const served = answers.filter(({ status }) => status === 200).length;
  return {
    shown: runs > 1,
    saw: `${copies} requests with one payment: ${runs} upstream runs, ${served} answered with 200, charged ${await countCharges()} time(s).`,
  };
});
