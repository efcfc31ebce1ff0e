import { setTimeout as sleep } from 'node:timers/promises';
import { askTerms, sendPaid } from '../../server/test/helpers/payer.ts';
import { describe, show } from './ground.ts';

// A client that loses its connection pays, and can't have what it paid for.
await show(async ({ seller, facilitator, upstream, newPayer, countCharges }) => {
  const working = Promise.withResolvers<void>();
  const done = Promise.withResolvers<void>();
  const settled = Promise.withResolvers<void>();
  upstream.behave((_request, response) => {
    working.resolve();
    void done.promise.then(() => response.end('work'));
  });
  facilitator.afterSettling(async () => {
    settled.resolve();
    return 'answer';
  });
  const url = `${seller.url}/paid`;
  const payment = await (await newPayer()).pay(await askTerms(url));
  const leaving = new AbortController();
  const left = sendPaid(url, payment, { signal: leaving.signal }).catch(() => undefined);
  await working.promise;
  leaving.abort();
  await left;
  done.resolve();
  // A middleware that is mended may not settle at all.
  await Promise.race([settled.promise, sleep(5_000, undefined, { ref: false })]);
  const charges = await countCharges();
  const again = await sendPaid(url, payment);
  return {
    shown: charges === 1 && again.status !== 200,
    saw: `The client left while the upstream worked: charged ${charges} time(s); the same payment again: ${describe(again)}.`,
  };
});
