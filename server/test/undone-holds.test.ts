import type { Address } from 'viem';
import { beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../contracts/test/local-chain.ts';
import { createOrganisation } from '../src/accounts/index.ts';
import { insertDelegation, insertLimit } from '../src/authority/index.ts';
import { insertHold } from '../src/authority/authority.sql.ts';
import type { Database, WriteContext } from '../src/db/index.ts';
import { fundAccount } from '../src/embedded/index.ts';
import { addSeconds, unixSeconds } from '../src/kernel/clock.ts';
import { newAgentId, newId } from '../src/kernel/ids.ts';
import { closeExpired, createWallet, followSettlements } from '../src/wallet/index.ts';
import { authorizationOf, type OutgoingPayment } from '../src/wallet/outgoing-payment.ts';
import { insertOutgoingPayment } from '../src/wallet/outgoing-payments.sql.ts';
import { signTransfer } from '../src/wallet/wallet.ts';
import { type Chain, createSettler, networks } from '../src/x402/index.ts';
import { createReorganisationWatch } from '../src/x402/settlement/reorganisations.ts';
import { claim, contextOf, newOrder, price, report, storeAnswer } from './crash/payment-parts.ts';
import { forgetLast, type Ground, letPass, openGround, type Scene } from './helpers/settlement.ts';

const network = networks.sandbox;
let ground: Ground;
let db: Database;
let chain: Chain;
let context: WriteContext;
// A chain of its own for each test: what one has undone would be undone for the next.
beforeEach(async () => {
  ground = await openGround();
  ({ chain } = ground);
  ({ db } = ground.database);
  context = contextOf(db);
});

type Bought = Pick<Scene, 'sent'> & { outgoing: OutgoingPayment; payee: Address };

/** A wallet's payment, settled, and the hold of its budget captured. */
async function buy(): Promise<Bought> {
  const { id: environmentId } = await createOrganisation(context, 'Buyer');
  const wallet = await createWallet(context, environmentId, network);
  await fundAccount(ground.local.rpcUrl, { address: wallet.address, tokenAtomic: price });
  await connect(ground.local.rpcUrl).mine({ blocks: 3 });
  const order = await newOrder();
  const now = new Date();
  const delegation = {
    environmentId,
    id: newId('delegation'),
    agentId: await newAgent(),
    status: 'active' as const,
    description: 'a test',
    category: null,
    hostAllowlist: [],
    validFrom: now,
    validUntil: addSeconds(now, 3_600),
  };
  const outgoing: OutgoingPayment = {
    environmentId,
    id: newId('outgoing_payment'),
    agentId: delegation.agentId,
    delegationId: delegation.id,
    decisionId: newId('decision'),
    holdId: newId('hold'),
    network: network.id,
    asset: network.asset.address,
    payer: wallet.address,
    nonce: order.sent.authorization.nonce,
    payTo: order.payee,
    amount: price,
    resource: 'https://api.example.com/x',
    validBefore: BigInt(unixSeconds(now) + 120),
    state: 'signed',
    transaction: null,
    createdAt: now,
  };
  await insertDelegation(db, delegation, now);
  await insertLimit(db, delegation, { kind: 'lifetime', currency: 'USDC', amount: 2n * price });
  await insertHold(db, { ...outgoing, id: outgoing.holdId, delegation, currency: 'USDC', now });
  await insertOutgoingPayment(db, outgoing);
  const authorization = authorizationOf(outgoing);
  const signature = await signTransfer(context, wallet, network, authorization);
  const sent = { ...order.sent, authorization, signature };
  const payment = await claim(context, { ...order, sent });
  await storeAnswer(context, payment);
  expect(await settler().settle(payment)).toMatchObject({ kind: 'settled' });
  await followSettlements(context);
  return { outgoing, sent, payee: order.payee };
}

async function newAgent() {
  const id = newAgentId();
  await db.query(
    `INSERT INTO agents (id, name, client_info, client_id, status, created_at, updated_at)
     VALUES ($1::uuid, 'a', '', $1::text, 'active', now(), now())`,
    [id],
  );
  return id;
}

const settler = (on = context) => createSettler({ context: on, chain, report });

/** How the payment and its budget stand: state, hold, spent, held. */
async function standing({ outgoing }: Bought): Promise<unknown[]> {
  const [row] = await db.query<{ state: string; hold: string; spent: bigint; held: bigint }>(
    `SELECT p.state, h.state AS hold, l.spent, l.held FROM outgoing_payments p JOIN holds h ON h.id = p.hold_id
     JOIN delegation_limits l ON l.delegation_id = p.delegation_id WHERE p.id = $1`,
    [outgoing.id],
  );
  return [row?.state, row?.hold, row?.spent, row?.held];
}

async function told({ outgoing }: Bought): Promise<string[]> {
  const rows = await db.query<{ action: string }>(
    'SELECT action FROM audit_events WHERE resource = $1 ORDER BY id',
    [outgoing.id],
  );
  return rows.map(({ action }) => action);
}

const captured = ['settled', 'captured', price, 0n];
const held = ['signed', 'held', 0n, price];

describe('a hold that was captured for a settlement which the chain has undone', () => {
  it('is given back when the payment cannot be settled any more', async () => {
    const bought = await buy();
    expect(await standing(bought)).toEqual(captured);
    await forgetLast(ground, 2);
    await connect(ground.local.rpcUrl).increaseTime({ seconds: 600 });
    await settler(contextOf(db, 600)).resume();
    await followSettlements(context);
    expect(await standing(bought), 'not known yet').toEqual(held);
    await closeExpired(context, chain);
    expect(await standing(bought)).toEqual(['released', 'released', 0n, 0n]);
    expect(await told(bought)).toEqual([
      'outgoing_payment.settled',
      'outgoing_payment.settlement_undone',
      'outgoing_payment.released',
    ]);
    expect(await chain.balanceOf(bought.payee)).toBe(0n);
  });

  it('stays captured when the payment has been settled again by the time that anybody hears of it', async () => {
    const bought = await buy();
    await forgetLast(ground, 2);
    await settler().resume();
    await letPass(db, 60);
    await settler().resume();
    expect(await chain.balanceOf(bought.payee)).toBe(price);
    const rows = await db.query('SELECT topic FROM outbox ORDER BY id');
    expect(rows).toEqual([{ topic: 'payment.settlement_undone' }, { topic: 'payment.settled' }]);
    await Promise.all([followSettlements(context), followSettlements(context)]);
    expect(await standing(bought)).toEqual(captured);
    expect(await told(bought)).toEqual(['outgoing_payment.settled']);
  });

  it('is held while the payment is on its way again, though the news of the first settlement came after that of its end', async () => {
    const bought = await buy();
    await forgetLast(ground, 2);
    await createReorganisationWatch({ context, chain, report })();
    await followSettlements(context);
    expect(await standing(bought)).toEqual(held);
    const { network: on, asset, payer, nonce } = bought.outgoing;
    await db.query(
      "INSERT INTO outbox (environment_id, topic, payload, created_at) VALUES ($1, 'payment.settled', $2, now())",
      [bought.outgoing.environmentId, JSON.stringify({ network: on, asset, payer, nonce })],
    );
    await followSettlements(context);
    expect(await standing(bought)).toEqual(held);
  });
});
