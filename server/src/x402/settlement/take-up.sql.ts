import type { Sql } from '../../db/index.ts';
import type { Payment } from '../payments/payment.ts';
import { isOnChain, paymentColumns } from '../payments/payments.sql.ts';
import { isDue } from './refunds.sql.ts';

/**
 * Takes up payments that a process left behind: past their lease, on whichever chain, or answered a while ago and not taken for settling
 * on this one. Those of another wait for it alone: a chain that is away must not keep the others' from being found. What is taken up
 * goes behind all others, so that payments of which nothing can be known for now keep none from its turn; `limit` is for either kind.
 */
export async function takeAbandoned(
  sql: Sql,
  args: { network: string; respondedForSeconds: number; limit: number },
): Promise<Payment[]> {
  return sql.query<Payment>(
    `WITH interrupted AS (
       SELECT p.environment_id, p.id FROM payments p
       WHERE p.state = 'forwarding' AND p.lease_until <= now() AND ${isOnChain}
       ORDER BY p.updated_at LIMIT $3 FOR UPDATE SKIP LOCKED
     ), answered AS (
       SELECT p.environment_id, p.id FROM payments p
       WHERE p.state = 'responded' AND p.network = $1 AND p.updated_at <= now() - make_interval(secs => $2)
         AND ${isDue} AND ${isOnChain}
       ORDER BY p.updated_at LIMIT $3 FOR UPDATE OF p SKIP LOCKED
     )
     UPDATE payments p SET updated_at = now()
     WHERE (p.environment_id, p.id) IN (TABLE interrupted UNION ALL TABLE answered)
     RETURNING ${paymentColumns}`,
    [args.network, args.respondedForSeconds, args.limit],
  );
}
