import { setTimeout as sleep } from 'node:timers/promises';
import { askTerms, sendPaid } from '../../server/test/helpers/payer.ts';
import { describe, show } from './ground.ts';

// A payment names the resource that it is for. Nobody compares that, and nothing ties it to what it was first sent for.
await show(async ({ seller, upstream, newPayer, countCharges }) => {
  upstream.behave((_request, response) => void sleep(200).then(() => response.end('work')));
  const payer = await newPayer();
  const terms = await askTerms(`${seller.url}/paid`);
  const elsewhere = await sendPaid(`${seller.url}/other`, await payer.pay(terms));
  const chargesBefore = await countCharges();

  upstream.requests.length = 0;
  const payment = await payer.pay(terms);
  await Promise.all(['/paid', '/other'].map((path) => sendPaid(`${seller.url}${path}`, payment)));
  const runs = upstream.requests.length;
  const charges = (await countCharges()) - chargesBefore;
  return {
    shown: elsewhere.status === 200 && runs === 2 && charges === 1,
    saw: `A payment for /paid, sent to /other: ${describe(elsewhere)}. One sent to both at once: ${runs} upstream runs, charged ${charges} time(s).`,
  };
});
