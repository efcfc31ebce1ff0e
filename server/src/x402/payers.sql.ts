import type { Sql } from '../db/index.ts';
import type { Payment } from './payment.ts';

/** Who pays, in which token. */
export type PayerKey = Pick<Payment, 'asset' | 'network' | 'payer'>;

/** Holds a payer's row until the transaction ends, so that claims on its money are looked at one after another. */
export async function lockPayer(
  sql: Sql,
  { network, asset, payer }: PayerKey,
): Promise<{ suspendedUntil: Date | null }> {
  const [row] = await sql.query<{ suspendedUntil: Date | null }>(
    `INSERT INTO payers (network, asset, payer) VALUES ($1, $2, $3)
     ON CONFLICT (network, asset, payer) DO UPDATE SET payer = EXCLUDED.payer RETURNING suspended_until`,
    [network, asset, payer],
  );
  return { suspendedUntil: row?.suspendedUntil ?? null };
}

/** What the payer's other payments here will still take from a balance that was read then, or have taken since. */
export async function sumClaimed(
  sql: Sql,
  payment: PayerKey & Pick<Payment, 'id'>,
  balanceReadAt: Date,
): Promise<bigint> {
  const [row] = await sql.query<{ claimed: bigint }>(
    `SELECT COALESCE(sum(amount), 0) AS claimed FROM (
       SELECT amount FROM payments
       WHERE network = $1 AND asset = $2 AND payer = $3 AND state IN ('forwarding', 'responded', 'settling')
         AND id <> $5
       UNION ALL
       SELECT amount FROM payments
       WHERE network = $1 AND asset = $2 AND payer = $3 AND settled_at >= $4) AS claims`,
    [payment.network, payment.asset, payment.payer, balanceReadAt, payment.id],
  );
  return row?.claimed ?? 0n;
}

/** Takes no new payments of these for a while: what they had signed turned out to be worth nothing, after the work was done. */
export async function suspendPayers(sql: Sql, payers: readonly PayerKey[], until: Date): Promise<void> {
  if (payers.length === 0) return;
  await sql.query(
    `INSERT INTO payers (network, asset, payer, suspended_until)
     SELECT DISTINCT k.network, k.asset, k.payer, $4::timestamptz
     FROM unnest($1::text[], $2::text[], $3::text[]) AS k (network, asset, payer)
     ON CONFLICT (network, asset, payer) DO UPDATE SET suspended_until = EXCLUDED.suspended_until`,
    [
      payers.map(({ network }) => network),
      payers.map(({ asset }) => asset),
      payers.map(({ payer }) => payer),
      until,
    ],
  );
}
