import { askTerms, sendPaid } from '../../server/test/helpers/payer.ts';
import { type Ground, show } from './ground.ts';

// Neither the work nor the payment is written down: a killed server comes back knowing nothing.
await show(async (ground) => {
  const before = await killWhile('working', ground);
  const after = await killWhile('settling', ground);
  return {
    shown: before.runs > 1 && after.charges === 1 && after.status !== 200,
    saw:
      `Killed when the upstream had done its work: the same payment ran it again (${before.runs} runs, ${before.status}). ` +
      `Killed when it had been settled: the same payment is refused (${after.status}), charged ${after.charges} time(s), no answer.`,
  };
});

/** Kills the seller's server at that point of a call, starts it again, and sends the same payment. */
async function killWhile(point: 'settling' | 'working', ground: Ground) {
  const { seller, facilitator, upstream, newPayer, countCharges } = ground;
  const reached = Promise.withResolvers<void>();
  const killed = Promise.withResolvers<'answer'>();
  const chargesBefore = await countCharges();
  upstream.requests.length = 0;
  upstream.behave((_request, response) => {
    if (point === 'settling') return response.end('work');
    // The work is done when its first byte goes out.
    response.write('work');
    return reached.resolve();
  });
  facilitator.afterSettling(async () => {
    reached.resolve();
    return killed.promise;
  });
  const url = `${seller.url}/paid`;
  const payment = await (await newPayer()).pay(await askTerms(url));
  const cut = sendPaid(url, payment).catch(() => undefined);
  await reached.promise;
  await seller.kill();
  await cut;
  killed.resolve('answer');
  upstream.behave((_request, response) => response.end('work'));
  await seller.start();
  const { status } = await sendPaid(url, payment);
  return { status, runs: upstream.requests.length, charges: (await countCharges()) - chargesBefore };
}
