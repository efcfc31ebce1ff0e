import type { Case, Contender, Stage } from '../bench.ts';
import { startCredence } from '../contenders/credence.ts';
import { openPaymentOffice } from '../load/payment-office.ts';

export const paidOptimistic: Case = {
  name: 'paid-optimistic',
  title: 'A paid call that is answered before it is settled',
  notes: [
    'Settlement mode `optimistic`: 1,020 calls a second are sent for half a minute, whatever is settled by then; each is verified, and its answer stored, before it is released.',
    'Checked in every run, a minute after the last call: the payee got the price times the calls answered with 2xx, to the last unit.',
    'What may be owed is set high enough for that: `CREDENCE_OWED_MAX` and its sisters.',
  ],
  connections: 64,
  ratePerSecond: 1_020,
  threads: 2,
  rampSeconds: 2,
  windowSeconds: 30,
  drainSeconds: 60,
  warmUpSeconds: 4,
  start: startOptimistic,
};

async function startOptimistic(stage: Stage): Promise<Contender[]> {
  const enough = '$100000';
  const { sold, headers, roots, instance } = await startCredence(stage, {
    settlement: 'optimistic',
    env: {
      CREDENCE_OWED_MAX: enough,
      CREDENCE_OWED_MAX_PER_SERVER: enough,
      CREDENCE_OWED_MAX_PER_PAYER: enough,
    },
  });
  const side = { url: `${sold.url}/paid`, headers };
  const tickets = await openPaymentOffice({ ...side, rpcUrl: instance.info.rpc_url });
  return [{ name: 'Credence', ...side, roots, tickets }];
}
