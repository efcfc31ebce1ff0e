import { askTerms, sendPaid } from '../../server/test/helpers/payer.ts';
import { describe, show } from './ground.ts';

// The facilitator is down, and the payer is told what a payer with a bad payment is told.
await show(async ({ seller, facilitator, newPayer }) => {
  const url = `${seller.url}/paid`;
  const payer = await newPayer();
  const terms = await askTerms(url);
  const payment = await payer.pay(terms);
  const bad = structuredClone(payment);
  bad.payload['signature'] = `0x${'11'.repeat(64)}1b`;
  const refused = await sendPaid(url, bad);
  await facilitator.stop();
  const during = await sendPaid(url, payment);
  return {
    shown: during.status === 402 && during.text === refused.text,
    saw: `A good payment while the facilitator is down: ${describe(during)}; a badly signed one before: ${describe(refused)}.`,
  };
});
