import type { WriteContext } from '../../db/index.ts';
import { reopenPayment } from '../claims/claims.ts';
import { creditsNetwork } from './credit-payment.ts';
import type { Payment } from '../payments/payment.ts';
import { paymentColumns } from '../payments/payments.sql.ts';

const resumedMax = 200;

/**
 * Gives back what attempts of processes that are gone had reserved, so that no credits are held for ever. There is nothing else to
 * take up: what was answered was charged with it. Gives how many it found; one that can't be given back now keeps none of the others.
 */
export async function resumeCredits(
  context: WriteContext,
  report: (error: unknown) => void,
): Promise<number> {
  const interrupted = await context.db.query<Payment>(
    `SELECT ${paymentColumns} FROM payments p
     WHERE p.network = '${creditsNetwork}' AND p.state = 'forwarding' AND p.lease_until <= now()
     ORDER BY p.lease_until LIMIT ${resumedMax}`,
  );
  for (const payment of interrupted)
    await reopenPayment({ ...context, scope: payment.environmentId }, payment, 'interrupted').catch(report);
  return interrupted.length;
}
