import { askTerms, sendPaid } from '../../server/test/helpers/payer.ts';
import { describe, show } from './ground.ts';

// The facilitator settles, and its answer gets lost: the seller says 402 to somebody who has paid, now and for ever.
await show(async ({ seller, facilitator, upstream, newPayer, countCharges }) => {
  facilitator.afterSettling(async () => 'lose');
  const url = `${seller.url}/paid`;
  const payment = await (await newPayer()).pay(await askTerms(url));
  const first = await sendPaid(url, payment);
  facilitator.afterSettling(async () => 'answer');
  const again = await sendPaid(url, payment);
  const charges = await countCharges();
  return {
    shown: charges === 1 && first.status !== 200 && again.status !== 200,
    saw: `Settled, and the facilitator's answer lost: ${describe(first)}; the same payment again: ${describe(again)}. Charged ${charges} time(s), ${upstream.requests.length} upstream run(s), no answer.`,
  };
});
