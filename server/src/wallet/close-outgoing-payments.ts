import { closeHold, reopenHold } from '../authority/index.ts';
import { findInTurn, type Sql, write, writeBatch, type WriteContext } from '../db/index.ts';
import { type Chain, findClaim, settledTopic, undoneTopic } from '../x402/index.ts';
import { authorizationOf, type OutgoingPayment } from './outgoing-payment.ts';
import {
  closeOutgoingPayment,
  findSignedBefore,
  lockByNonce,
  reopenOutgoingPayment,
} from './outgoing-payments.sql.ts';

const batchSize = 100;

/** What tells that a payment's settlement has come, or gone. */
const topics = [settledTopic, undoneTopic];

interface SettlementEvent {
  network: string;
  asset: string;
  payer: string;
  nonce: string;
}

/** Whether a wallet here is the payer of an outbox row: its payment is written before it is signed. */
const isOurs = `EXISTS (
  SELECT 1 FROM wallets w WHERE w.network = o.payload->>'network' AND w.address = o.payload->>'payer')`;

/**
 * Has the holds of payments that were settled on this instance follow them: takes their outbox rows, one transaction each.
 * Returns how many rows it took; a payer that isn't a wallet here needs nothing.
 */
export async function followSettlements(context: WriteContext): Promise<number> {
  let taken = 0;
  for (const topic of topics) taken += await followTopic(context, topic);
  return taken;
}

/** A topic for itself: by its index, past all that lies there of others. */
async function followTopic(context: WriteContext, topic: string): Promise<number> {
  for (let taken = await dropStrangers(context, topic); ; taken += 1) {
    const more = await write(context, async (sql, now) => {
      const [row] = await sql.query<{ payload: SettlementEvent }>(
        `DELETE FROM outbox WHERE id = (
           SELECT id FROM outbox o WHERE topic = $1 AND ${isOurs} ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
         RETURNING payload`,
        [topic],
      );
      if (!row) return { result: false, audit: null };
      const payment = await lockByNonce(sql, row.payload);
      return { result: true, audit: payment ? await follow(sql, payment, now) : null };
    });
    if (!more) return taken;
  }
}

/**
 * A row only says where to look: workers may take two of one payment in either order, and what counts is how it stands now. Captured for a
 * settlement that is no more, a hold is one again, until the payment is settled after all, or can't be any more.
 */
async function follow(sql: Sql, payment: OutgoingPayment, now: Date) {
  const received = (await findClaim(sql, payment))?.payment;
  if (received?.state === 'settled')
    return close(sql, payment, { state: 'settled', transaction: received.transaction }, now);
  if (!(await reopenOutgoingPayment(sql, payment))) return null;
  await reopenHold(sql, { environmentId: payment.environmentId, id: payment.holdId });
  return eventOf(payment, 'settlement_undone', payment.transaction);
}

const strangersMax = 500;

/** Most payers are no wallets of this instance: their rows go many at a time. */
async function dropStrangers(context: WriteContext, topic: string): Promise<number> {
  for (let dropped = 0; ;) {
    const count = await writeBatch(context, async (sql) => {
      const rows = await sql.query(
        `DELETE FROM outbox WHERE id IN (
           SELECT id FROM outbox o WHERE topic = $1 AND NOT ${isOurs}
           ORDER BY id LIMIT ${strangersMax} FOR UPDATE SKIP LOCKED)
         RETURNING id`,
        [topic],
      );
      return { result: rows.length, audits: [] };
    });
    dropped += count;
    if (count < strangersMax) return dropped;
  }
}

/**
 * Ends the payments whose time is over: spent where the chain has used their nonce, and free again where it never can.
 * An authorisation is dead only when no block that can still appear is early enough.
 * One that can't be looked up stays for the next round, and keeps no other from its end; then this throws.
 */
export async function closeExpired(context: WriteContext, chain: Chain): Promise<number> {
  const settledTime = await chain.settledTime();
  const { id: network } = chain.network;
  const round = { name: `expired payments of ${network}`, limit: batchSize };
  const expired = await findInTurn(context.db, round, (after) =>
    findSignedBefore(context.db, network, settledTime, { limit: batchSize, after }),
  );
  const failures: unknown[] = [];
  for (const payment of expired) {
    try {
      await closeOne(context, chain, payment);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return expired.length;
}

async function closeOne(context: WriteContext, chain: Chain, payment: OutgoingPayment): Promise<void> {
  const used = await chain.isNonceUsed(payment.payer, payment.nonce);
  // The wallet signs nothing else with this nonce, so its use is the transfer, also where the logs that would name the
  // transaction are out of reach. Free budget after a use that nobody understood would be spent twice.
  const transaction = used ? ((await chain.findSettlement(authorizationOf(payment))) ?? null) : null;
  const state = used ? 'settled' : 'released';
  await write(context, async (sql, now) => ({
    result: undefined,
    audit: await close(sql, payment, { state, transaction }, now),
  }));
}

async function close(
  sql: Sql,
  payment: OutgoingPayment,
  closed: { state: 'released' | 'settled'; transaction: string | null },
  now: Date,
) {
  if (!(await closeOutgoingPayment(sql, payment, closed, now))) return null;
  await closeHold(
    sql,
    { environmentId: payment.environmentId, id: payment.holdId },
    closed.state === 'settled' ? 'captured' : 'released',
    now,
  );
  return eventOf(payment, closed.state, closed.transaction);
}

function eventOf(payment: OutgoingPayment, what: string, transaction: string | null) {
  const data = {
    amount: payment.amount.toString(),
    mandate_id: payment.delegationId,
    transaction,
  };
  return {
    action: `outgoing_payment.${what}`,
    resource: payment.id,
    scope: payment.environmentId,
    data,
  };
}
