import type { RowKey, Sql } from '../db/index.ts';
import type { OutgoingPayment } from './outgoing-payment.ts';

const outgoingColumns = `environment_id, id, agent_id, delegation_id, decision_id, hold_id, network, asset, payer, nonce,
  pay_to, amount, resource, valid_before, state, transaction, created_at`;

export async function insertOutgoingPayment(sql: Sql, payment: OutgoingPayment): Promise<void> {
  await sql.query(
    `INSERT INTO outgoing_payments (environment_id, id, agent_id, delegation_id, decision_id, hold_id, network, asset,
       payer, nonce, pay_to, amount, resource, valid_before, state, created_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
    [
      payment.environmentId,
      payment.id,
      payment.agentId,
      payment.delegationId,
      payment.decisionId,
      payment.holdId,
      payment.network,
      payment.asset,
      payment.payer,
      payment.nonce,
      payment.payTo,
      payment.amount,
      payment.resource,
      payment.validBefore,
      payment.state,
      payment.createdAt,
    ],
  );
}

/**
 * The payment that signed this nonce, if a wallet here did, held until the transaction ends. The payer's address is ours, so it names
 * one environment.
 */
export async function lockByNonce(
  sql: Sql,
  key: { network: string; asset: string; payer: string; nonce: string },
): Promise<OutgoingPayment | undefined> {
  const [row] = await sql.query<OutgoingPayment>(
    `SELECT ${outgoingColumns} FROM outgoing_payments
     WHERE environment_id = (SELECT environment_id FROM wallets WHERE network = $1 AND address = $3)
       AND network = $1 AND asset = $2 AND payer = $3 AND nonce = $4 FOR UPDATE`,
    [key.network, key.asset, key.payer, key.nonce],
  );
  return row;
}

/** Payments of one chain whose use has to be looked up: those whose time is over there. */
export async function findSignedBefore(
  sql: Sql,
  network: string,
  validBefore: bigint,
  { limit, after }: { limit: number; after: RowKey },
): Promise<OutgoingPayment[]> {
  return sql.query<OutgoingPayment>(
    `SELECT ${outgoingColumns} FROM outgoing_payments WHERE state = 'signed' AND network = $1 AND valid_before <= $2
       AND (environment_id, id) > ($4, $5)
     ORDER BY environment_id, id LIMIT $3`,
    [network, validBefore, limit, after.environmentId, after.id],
  );
}

/** Ends a signed payment once. False where it had ended before. */
export async function closeOutgoingPayment(
  sql: Sql,
  payment: OutgoingPayment,
  closed: { state: 'released' | 'settled'; transaction: string | null },
  now: Date,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE outgoing_payments SET state = $3, transaction = $4, closed_at = $5
     WHERE environment_id = $1 AND id = $2 AND state = 'signed' RETURNING id`,
    [payment.environmentId, payment.id, closed.state, closed.transaction, now],
  );
  return rows.length > 0;
}

/** Opens a payment again whose settlement is no more. False where it wasn't settled. */
export async function reopenOutgoingPayment(sql: Sql, payment: OutgoingPayment): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE outgoing_payments SET state = 'signed', transaction = NULL, closed_at = NULL
     WHERE environment_id = $1 AND id = $2 AND state = 'settled' RETURNING id`,
    [payment.environmentId, payment.id],
  );
  return rows.length > 0;
}
