/*
 * A process of the program, for tests that kill it. `node worker.fixture.ts <database url> <rpc url> <point> <order>` brings a
 * payment to the point, says so, and waits to be killed; `… notice` looks for a reorganisation, and then does the same; `… resume` takes up
 * what others left, says how many, and ends; `… tend` looks after refunds once it is armed.
 */
import { once } from 'node:events';
import { tendRefunds } from '../../src/wallet/index.ts';
import { openDatabase } from '../../src/db/index.ts';
import { parseTyped } from '../../src/kernel/json.ts';
import { createSettler } from '../../src/x402/index.ts';
import { createReorganisationWatch } from '../../src/x402/settlement/reorganisations.ts';
import { recordBatch } from '../../src/x402/settlement/settle-batch.ts';
import {
  claim,
  contextOf,
  openChain,
  type Order,
  type Point,
  points,
  report,
  storeAnswer,
} from './payment-parts.ts';

const [, , url = '', rpcUrl = '', step = '', given = '{}'] = process.argv;
const db = openDatabase(url, { poolSize: 2, onError: () => undefined });
const chain = openChain(rpcUrl);

if (step === 'resume') {
  const count = await createSettler({ context: contextOf(db), chain, report }).resume();
  process.stdout.write(`${count}\n`);
  await db.close();
} else {
  setInterval(() => undefined, 60_000);
  if (step === 'tend') await tendArmed();
  else if (step === 'notice') await createReorganisationWatch({ context: contextOf(db), chain, report })();
  else await bringTo(step as Point, parseTyped(given) as Order);
  process.stdout.write(`${step}\n`);
}

/** Looks after refunds once the test has said where it is to stand still on its way. */
async function tendArmed(): Promise<void> {
  const armed = once(process, 'message');
  process.send?.({ ready: true });
  await armed;
  await tendRefunds(contextOf(db), chain);
}

/** The steps of a paid call as the gateway and the settler take them, up to the point. */
async function bringTo(point: Point, order: Order): Promise<void> {
  const context = contextOf(db);
  const payment = await claim(context, order);
  if (isBefore(point, 'responded')) return;
  await storeAnswer(context, payment);
  if (isBefore(point, 'recorded')) return;
  const { recorded } = await recordBatch({ context, chain, report: () => undefined }, [payment]);
  if (!recorded) throw new Error('nothing was recorded');
  if (isBefore(point, 'sent')) return;
  await chain.broadcast(recorded.transaction.raw);
}

function isBefore(point: Point, other: Point): boolean {
  return points.indexOf(point) < points.indexOf(other);
}
