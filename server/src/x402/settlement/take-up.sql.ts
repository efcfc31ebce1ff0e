import type { Sql } from '../../db/index.ts';
import type { Payment } from '../payments/payment.ts';
import { paymentColumns } from '../payments/payments.sql.ts';
import { isDue } from './refunds.sql.ts';

/**
 * Payments that a process left behind: past their lease, on whichever rail, or answered a while ago and not taken for settling on
 * this network. Those of another wait for it alone: a chain that is away must not keep the others' from being found.
 */
export async function findAbandoned(
  sql: Sql,
  args: { network: string; respondedForSeconds: number; limit: number },
): Promise<Payment[]> {
  return sql.query<Payment>(
    `SELECT ${paymentColumns} FROM payments p
     WHERE (p.state = 'forwarding' AND p.lease_until <= now())
       OR (p.state = 'responded' AND p.network = $1 AND p.updated_at <= now() - make_interval(secs => $2) AND ${isDue})
     ORDER BY p.updated_at LIMIT $3`,
    [args.network, args.respondedForSeconds, args.limit],
  );
}
