import type { Contender, Stage } from '../bench.ts';
import { setBlockTime } from '../contenders/chain.ts';
import { startCredence } from '../contenders/credence.ts';
import { startOfficialMiddleware } from '../contenders/official-middleware.ts';
import { openPaymentOffice } from '../load/payment-office.ts';

/** Us and the official middleware, each with a chain of its own. Without a block time each transaction is a block. */
export async function startExactContenders(
  stage: Stage,
  options: { blockSeconds?: number } = {},
): Promise<Contender[]> {
  const credence = await startCredence(stage);
  const official = await startOfficialMiddleware(stage);
  const sides = [
    {
      name: 'Credence',
      url: `${credence.sold.url}/paid`,
      headers: credence.headers,
      roots: credence.roots,
      rpcUrl: credence.instance.info.rpc_url,
    },
    {
      name: '@x402/express',
      url: official.url,
      headers: {},
      roots: official.roots,
      rpcUrl: official.rpcUrl,
    },
  ];
  const contenders: Contender[] = [];
  for (const { rpcUrl, ...side } of sides) {
    contenders.push({ ...side, tickets: await openPaymentOffice({ ...side, rpcUrl }) });
    if (options.blockSeconds !== undefined) await setBlockTime(rpcUrl, options.blockSeconds);
  }
  return contenders;
}

/** What holds for every comparison with the middleware. */
export const exactNotes: readonly string[] = [
  'Scheme `exact`: each call is verified, answered and settled on the chain before its answer is released. 1,000 payers, one payment a call, signed before the run.',
  'Checked in every run: the payee got the price times the calls answered with 2xx, to the last unit.',
  'Credence forwards to an nginx upstream, keeps claim, answer and audit in PostgreSQL (fsync on), and saves its chain. `@x402/express` answers from its own handler, keeps nothing, and its facilitator runs in the same process, without a hop between them; each side has an anvil and a payee of its own.',
];
