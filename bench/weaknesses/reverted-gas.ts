import { askTerms, openChain, sendPaid } from '../../server/test/helpers/payer.ts';
import { show } from './ground.ts';

const copies = 20;
/** Whether a transfer is estimated before its twin is mined is a race; it is lost in most rounds. */
const roundsMax = 10;

// Replays that are settled side by side each become a transaction: one goes through, and the others burn the facilitator's gas.
await show(async ({ seller, rpcUrl, relayer, newPayer }) => {
  const url = `${seller.url}/paid`;
  const payer = await newPayer();
  const chain = openChain({ info: { rpc_url: rpcUrl } });
  for (let round = 1; ; round++) {
    const payment = await payer.pay(await askTerms(url));
    await Promise.all(Array.from({ length: copies }, () => sendPaid(url, payment)));
    const sent = await chain.receiptsOf(relayer);
    const reverted = sent.filter(({ status }) => status === 'reverted');
    if (reverted.length === 0 && round < roundsMax) continue;
    const gas = reverted.reduce((sum, { gasUsed }) => sum + gasUsed, 0n);
    return {
      shown: reverted.length > 0,
      saw: `${round} payment(s), each sent ${copies} times at once: ${sent.length} transactions, ${reverted.length} of them reverted, ${gas} gas for nothing.`,
    };
  }
});
