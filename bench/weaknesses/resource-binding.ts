import { askTerms, sendPaid } from '../../server/test/helpers/payer.ts';
import { describe, show } from './ground.ts';

// A payment names the resource that it is for, and nobody compares that.
await show(async ({ seller, upstream, newPayer, countCharges }) => {
  const payment = await (await newPayer()).pay(await askTerms(`${seller.url}/paid`));
  const answer = await sendPaid(`${seller.url}/other`, payment);
  const served = upstream.requests.map(({ url }) => url).join(', ');
  return {
    shown: answer.status === 200 && served === '/other',
    saw: `A payment for ${new URL(payment.resource?.url ?? '').pathname}, sent to /other: ${describe(answer)}, served ${served || 'nothing'}, charged ${await countCharges()} time(s).`,
  };
});
