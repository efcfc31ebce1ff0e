/*
 * A process of the program, for tests that kill it. `node worker.fixture.ts <database url> <rpc url> <point> <order>` brings a
 * payment to the point, says so, and waits to be killed; `… resume` takes up what others left, says how many, and ends.
 */
import { openDatabase, write } from '../../src/db/index.ts';
import { addSeconds } from '../../src/kernel/clock.ts';
import { parseTyped } from '../../src/kernel/json.ts';
import { limits } from '../../src/kernel/limits.ts';
import { claimPayment, type Payment, resumePayments, storeResponse } from '../../src/x402/index.ts';
import { beginSettling } from '../../src/x402/payments.sql.ts';
import { recordTransaction } from '../../src/x402/relayers.ts';
import {
  contextOf,
  fingerprint,
  openChain,
  type Order,
  type Point,
  points,
  presenter,
  relayer,
  storedAnswer,
} from './payment-parts.ts';

const [, , url = '', rpcUrl = '', step = '', order = '{}'] = process.argv;
const db = openDatabase(url, { poolSize: 2, onError: () => undefined });
const chain = openChain(rpcUrl);

if (step === 'resume') {
  const count = await resumePayments(contextOf(db, 60), new Map([[chain.network.id, { chain, relayer }]]));
  process.stdout.write(`${count}\n`);
  await db.close();
} else {
  await bringTo(step as Point, parseTyped(order) as Order);
  process.stdout.write(`${step}\n`);
  setInterval(() => undefined, 60_000);
}

/** The steps of a paid call as the gateway and `settlePayment` take them, up to the point. */
async function bringTo(point: Point, { sent, target }: Order): Promise<void> {
  const context = contextOf(db);
  const claimed = await claimPayment(context, { sent, presenter, fingerprint, target });
  if (claimed.kind !== 'claimed') throw new Error('the payment was claimed before');
  const { payment } = claimed;
  if (isBefore(point, 'responded')) return;
  await storeResponse(context, payment, storedAnswer);
  if (isBefore(point, 'taken')) return;
  await write(context, async (sql, now) => {
    const leaseUntil = addSeconds(now, limits.settlementMarginSeconds);
    return { result: await beginSettling(sql, payment, leaseUntil, now), audit: null };
  });
  if (isBefore(point, 'recorded')) return;
  const { raw } = await record(payment);
  if (isBefore(point, 'sent')) return;
  await chain.broadcast(raw);
}

async function record(payment: Payment) {
  const context = contextOf(db);
  const fees = await chain.fees();
  return write(context, async (sql, now) => ({
    result: await recordTransaction(sql, { box: context.box, chain, payment, fees, now }),
    audit: null,
  }));
}

function isBefore(point: Point, other: Point): boolean {
  return points.indexOf(point) < points.indexOf(other);
}
