import type { Sql } from '../../db/index.ts';
import type { Payment } from '../payments/payment.ts';

/** Who pays, in which token. */
export type PayerKey = Pick<Payment, 'asset' | 'network' | 'payer'>;

/** Until when nothing that is settled late is taken from a payer. */
export async function findSuspension(sql: Sql, payer: PayerKey): Promise<Date | null> {
  const [row] = await sql.query<{ suspendedUntil: Date | null }>(
    'SELECT suspended_until FROM payers WHERE network = $1 AND asset = $2 AND payer = $3',
    [payer.network, payer.asset, payer.payer],
  );
  return row?.suspendedUntil ?? null;
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
