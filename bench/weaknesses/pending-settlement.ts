import { askTerms, decode, sendPaid } from '../../server/test/helpers/payer.ts';
import { holdMining, resumeMining } from '../contenders/chain.ts';
import { describe, show } from './ground.ts';

/** Rather than the default of three minutes; what follows is the same. */
const confirmationTimeoutMs = 1_000;

// A block that comes late: each retry runs the upstream once more, and once it has come the payment buys nothing.
await show(
  async ({ seller, rpcUrl, upstream, newPayer, countCharges }) => {
    const url = `${seller.url}/paid`;
    const payment = await (await newPayer()).pay(await askTerms(url));
    await holdMining(rpcUrl);
    const first = await sendPaid(url, payment);
    const meanwhile = await sendPaid(url, payment);
    await resumeMining(rpcUrl);
    const after = await sendPaid(url, payment);
    const { errorReason } = decode(first.headers['payment-response']) as { errorReason?: string };
    const charges = await countCharges();
    return {
      shown: charges === 1 && upstream.requests.length > 1 && after.status !== 200,
      saw: `Not mined in time: ${describe(first)} (${errorReason}); again: ${describe(meanwhile)}; again after the block: ${describe(after)}. Charged ${charges} time(s), ${upstream.requests.length} upstream runs, no answer.`,
    };
  },
  { confirmationTimeoutMs },
);
