import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { expect, it } from 'vitest';
import { createSettler, exactFacts, networks, transferTypedData } from '../src/x402/index.ts';
import {
  contextOf,
  fingerprint,
  newOrder,
  openLane,
  presenter,
  price,
  report,
} from './crash/payment-parts.ts';
import { openGround } from './helpers/settlement.ts';

it('a payment that fails again as it did before is told once, and suspends its payer once', async () => {
  const { chain, database } = await openGround();
  const context = contextOf(database.db);
  const payer = privateKeyToAccount(generatePrivateKey());
  const { sent, target } = await newOrder();
  const authorization = { ...sent.authorization, from: payer.address };
  const signature = await payer.signTypedData(transferTypedData(networks.sandbox, authorization));
  const lane = openLane(context);
  const claimed = await lane.claim(
    {
      facts: exactFacts({ ...sent, authorization, signature }),
      presenter,
      fingerprint,
      target,
      mode: 'after_success',
      hosted: true,
      // It has been spent elsewhere since.
      balance: { atomic: price, readAt: new Date() },
    },
    context,
  );
  if (claimed.kind !== 'claimed') throw new Error(claimed.kind);
  const { payment } = claimed;
  await lane.end(
    payment,
    { kind: 'responded', response: { status: 200, headers: [], body: Buffer.from('done') } },
    context,
  );
  const settler = createSettler({ context, chain, report });
  const failed = { kind: 'failed', reason: 'insufficient_funds' };
  const suspendedUntil = () => database.db.query('SELECT suspended_until FROM payers');

  expect(await settler.settle(payment)).toEqual(failed);
  const first = await suspendedUntil();
  expect(await settler.settle({ ...payment, state: 'settlement_failed' })).toEqual(failed);
  expect(await suspendedUntil()).toEqual(first);
  expect(
    await database.db.query('SELECT action FROM audit_events WHERE resource = $1', [payment.id]),
  ).toEqual([{ action: 'payment.settlement_failed' }]);
}, 60_000);
