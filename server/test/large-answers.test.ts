import { beforeAll, expect, it } from 'vitest';
import { limits } from '../src/kernel/limits.ts';
import { findStoredResponse } from '../src/x402/index.ts';
import { claim, contextOf, newOrder, openLane } from './crash/payment-parts.ts';
import { openTestDatabase, type TestDatabase } from './helpers/database.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await openTestDatabase();
});

/** Written out as text, one more than a JavaScript string has room for. */
const count = 64;

it('as many large answers as end at the same moment are stored, each of them', async () => {
  const context = contextOf(database.db);
  const lane = openLane(context);
  const payments = [];
  for (let index = 0; index < count; index += 1) payments.push(await claim(context, await newOrder()));
  const body = Buffer.alloc(limits.storedResponseBytes, 'x');
  const end = { kind: 'responded', response: { status: 200, headers: [], body } } as const;
  const ended = await Promise.allSettled(payments.map((payment) => lane.end(payment, end, context)));
  expect(ended).toEqual(payments.map(() => ({ status: 'fulfilled', value: true })));
  const [first] = payments;
  if (!first) throw new Error('nothing was claimed');
  expect((await findStoredResponse(context, first))?.body.equals(body)).toBe(true);
}, 120_000);
