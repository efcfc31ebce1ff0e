import { askTerms, sendPaid } from '../../server/test/helpers/payer.ts';
import { describe, show } from './ground.ts';

// The flow that settles first charges for an upstream that then fails, and gives nothing back.
await show(async ({ seller, upstream, newPayer, countCharges }) => {
  upstream.behave((_request, response) => response.writeHead(500).end('broken'));
  const url = `${seller.url}/upfront`;
  const payment = await (await newPayer()).pay(await askTerms(url));
  const first = await sendPaid(url, payment);
  upstream.behave((_request, response) => response.end('mended'));
  const again = await sendPaid(url, payment);
  const charges = await countCharges();
  return {
    shown: charges === 1 && first.status !== 200 && again.status !== 200,
    saw: `Settled first, then the upstream failed: ${describe(first)}; the same payment again, the upstream mended: ${describe(again)}. Charged ${charges} time(s), no answer.`,
  };
});
