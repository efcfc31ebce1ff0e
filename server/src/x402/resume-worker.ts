import type { WriteContext } from '../db/index.ts';
import { addSeconds } from '../kernel/clock.ts';
import type { Address } from 'viem';
import type { Chain } from './chain.ts';
import { reopenPayment } from './claims.ts';
import { findAbandoned, sweepStoredResponses } from './payments.sql.ts';
import { resendMissing } from './relayers.ts';
import { settlePayment } from './settle.ts';

/** A request that has stored an answer settles it at once; one that hasn't after this long is gone. */
const respondedGraceSeconds = 5;
const batchSize = 50;

/**
 * Takes up what other processes left: attempts whose process is gone are reopened, answered payments are settled, and
 * transactions that the chain doesn't have are sent again. Returns how many payments it took up.
 */
export async function resumePayments(
  context: WriteContext,
  chains: ReadonlyMap<string, { chain: Chain; relayer: Address }>,
): Promise<number> {
  for (const { chain, relayer } of chains.values()) await resendMissing(context.db, chain, relayer);

  const now = context.clock.now();
  const abandoned = await findAbandoned(context.db, now, addSeconds(now, -respondedGraceSeconds), batchSize);
  for (const payment of abandoned) {
    const scoped = { ...context, scope: payment.environmentId };
    if (payment.state === 'forwarding') {
      await reopenPayment(scoped, payment, 'interrupted');
      continue;
    }
    const settlement = chains.get(payment.network);
    if (settlement) await settlePayment(scoped, settlement.chain, payment);
  }
  await sweepStoredResponses(context.db, now);
  return abandoned.length;
}
