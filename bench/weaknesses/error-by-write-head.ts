import { askTerms, sendPaid } from '../../server/test/helpers/payer.ts';
import { describe, show } from './ground.ts';

// The middleware keeps `writeHead` back, and looks for the status where that would have put it: it sees 200 and settles.
await show(async ({ seller, upstream, newPayer, countCharges }) => {
  upstream.behave((_request, response) => response.writeHead(500).end('broken'));
  const payer = await newPayer();
  const [paid, written] = [`${seller.url}/paid`, `${seller.url}/write-head`];
  const byStatusCode = await sendPaid(paid, await payer.pay(await askTerms(paid)));
  const chargesBefore = await countCharges();
  const byWriteHead = await sendPaid(written, await payer.pay(await askTerms(written)));
  const charges = (await countCharges()) - chargesBefore;
  return {
    shown: charges === 1 && byWriteHead.status === 500,
    saw: `A 500 set as statusCode: ${describe(byStatusCode)}, charged ${chargesBefore} time(s); the same by writeHead: ${describe(byWriteHead)}, charged ${charges} time(s).`,
  };
});
