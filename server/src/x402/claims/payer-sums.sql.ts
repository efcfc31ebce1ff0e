import type { Sql } from '../../db/index.ts';
import type { PaymentKey } from '../payments/payment.ts';
import { isOnChain } from '../payments/payments.sql.ts';
import type { PayerKey } from './payers.sql.ts';

/** A payer's row, as it stands once it is locked. */
export interface LockedPayer {
  network: string;
  asset: string;
  payer: string;
  suspendedUntil: Date | null;
}

/** Holds these payers' rows until the transaction ends, in their order, so that claims on their money are looked at one after another. */
export async function lockPayers(sql: Sql, keys: readonly PaymentKey[]): Promise<LockedPayer[]> {
  const columns = [
    keys.map(({ network }) => network),
    keys.map(({ asset }) => asset),
    keys.map(({ payer }) => payer),
  ];
  const [, rows] = await Promise.all([
    sql.query(
      `INSERT INTO payers (network, asset, payer)
       SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[]) ORDER BY 1, 2, 3 ON CONFLICT DO NOTHING`,
      columns,
    ),
    sql.query<LockedPayer>(
      `SELECT network, asset, payer, suspended_until FROM payers
       WHERE (network, asset, payer) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]))
       ORDER BY network, asset, payer FOR NO KEY UPDATE`,
      columns,
    ),
  ]);
  return rows;
}

/**
 * For each payment, what its payer's other payments here will still take from a balance of that block, or have taken in later ones: a node
 * may be behind the one that told of them, whichever process it told. Settlements of which the block isn't known count from
 * when the balance was read, by the database's clock; and so do all where the balance's isn't. Asked for under the payers' locks.
 */
export async function sumClaimed(
  sql: Sql,
  asks: readonly {
    payment: PayerKey & { id: string };
    balanceReadAt: Date;
    balanceBlock?: bigint | undefined;
  }[],
): Promise<bigint[]> {
  const rows = await sql.query<{ claimed: bigint }>(
    `SELECT coalesce((
         SELECT sum(amount) FROM payments p
         WHERE p.network = k.network AND p.asset = k.asset AND p.payer = k.payer
           AND p.state IN ('forwarding', 'responded', 'settling') AND ${isOnChain} AND p.id <> k.id), 0)
       + coalesce((
         SELECT sum(amount) FROM payments p
         WHERE p.network = k.network AND p.asset = k.asset AND p.payer = k.payer AND p.settled_block > k.read_block), 0)
       + coalesce((
         SELECT sum(amount) FROM payments p
         WHERE p.network = k.network AND p.asset = k.asset AND p.payer = k.payer
           AND p.settled_at >= k.read_at AND p.settled_block IS NULL AND ${isOnChain}), 0)
       + CASE WHEN k.read_block IS NULL THEN coalesce((
         SELECT sum(amount) FROM payments p
         WHERE p.network = k.network AND p.asset = k.asset AND p.payer = k.payer
           AND p.settled_at >= k.read_at AND p.settled_block IS NOT NULL), 0) ELSE 0 END AS claimed
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[])
       WITH ORDINALITY AS k (network, asset, payer, id, read_at, read_block, place) ORDER BY k.place`,
    [
      asks.map(({ payment }) => payment.network),
      asks.map(({ payment }) => payment.asset),
      asks.map(({ payment }) => payment.payer),
      asks.map(({ payment }) => payment.id),
      asks.map(({ balanceReadAt }) => balanceReadAt),
      asks.map(({ balanceBlock }) => balanceBlock ?? null),
    ],
  );
  return rows.map(({ claimed }) => claimed);
}

/** What is owed by payments that were answered before they are settled. */
export interface Owed {
  /** Test money and real money have nothing to do with each other. */
  byNetwork: ReadonlyMap<string, bigint>;
  byServer: ReadonlyMap<string, bigint>;
  byPayer: ReadonlyMap<string, bigint>;
}

const owedLock = 402_001;

/**
 * Sums what optimistic payments owe, on these payers' networks, to these servers, and by these payers (`network asset payer`). Takes a lock that
 * lasts until the transaction ends, so that nobody adds to it meanwhile.
 */
export async function sumOwed(
  sql: Sql,
  serverIds: readonly string[],
  payers: readonly PaymentKey[],
): Promise<Owed> {
  const [, owed, byPayer] = await Promise.all([
    sql.query('SELECT pg_advisory_xact_lock($1)', [owedLock]),
    sql.query<{ network: string | null; serverId: string | null; amount: bigint }>(
      `SELECT network, server_id, sum(amount) AS amount FROM payments
       WHERE mode = 'optimistic' AND state IN ('forwarding', 'responded', 'settling') AND network = ANY ($2::text[])
       GROUP BY GROUPING SETS ((network), (server_id)) HAVING server_id IS NULL OR server_id = ANY ($1::text[])`,
      [serverIds, [...new Set(payers.map(({ network }) => network))]],
    ),
    sql.query<{ network: string; asset: string; payer: string; amount: bigint }>(
      // Each payer by its index: joined, all that is owed would be held against each payer of the batch. The mode is a parameter, so
      // that the index of all that is owed isn't taken for each of them, as it is while nothing is.
      `SELECT k.network, k.asset, k.payer, owed.amount
       FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[], $3::text[])) AS k (network, asset, payer)
       CROSS JOIN LATERAL (
         SELECT sum(amount) AS amount FROM payments p
         WHERE p.network = k.network AND p.asset = k.asset AND p.payer = k.payer
           AND p.mode = $4 AND p.state IN ('forwarding', 'responded', 'settling') AND ${isOnChain}
       ) owed WHERE owed.amount IS NOT NULL`,
      [
        payers.map(({ network }) => network),
        payers.map(({ asset }) => asset),
        payers.map(({ payer }) => payer),
        'optimistic',
      ],
    ),
  ]);
  return {
    byNetwork: new Map(owed.flatMap(({ network, amount }) => (network === null ? [] : [[network, amount]]))),
    byServer: new Map(
      owed.flatMap(({ serverId, amount }) => (serverId === null ? [] : [[serverId, amount]])),
    ),
    byPayer: new Map(
      byPayer.map(({ network, asset, payer, amount }) => [`${network} ${asset} ${payer}`, amount]),
    ),
  };
}
