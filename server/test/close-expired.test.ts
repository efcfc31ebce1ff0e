import { encodeFunctionData, type Hex, toHex } from 'viem';
import type { PrivateKeyAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fiatTokenAbi } from '../contracts/test/fiat-token-abi.ts';
import { type PlantedToken, plantToken } from '../contracts/test/planted-token.ts';
import { newAccount, signTransfer, withParts } from '../contracts/test/signatures.ts';
import { openTestDatabase, testContext } from './helpers/database.ts';
import type { WriteContext } from '../src/db/index.ts';
import { newAgentId, newId } from '../src/kernel/ids.ts';
import { type Chain, createChain, networks } from '../src/x402/index.ts';
import { closeExpired } from '../src/wallet/index.ts';

const environmentId = newId('environment');
let usdc: PlantedToken;
let chain: Chain;
let context: WriteContext;
beforeAll(async () => {
  usdc = await plantToken();
  chain = createChain({ network: networks.sandbox, rpcUrl: usdc.rpcUrl, finality: 'instant' });
  context = testContext((await openTestDatabase()).db);
});
afterAll(() => usdc.stop());

/** A signed payment with its hold, good for so many seconds of the chain's time. */
async function sign(payer: PrivateKeyAccount, seconds: number, network: string = networks.sandbox.id) {
  const payment = {
    environmentId,
    id: newId('outgoing_payment'),
    agentId: newAgentId(),
    delegationId: newId('delegation'),
    decisionId: newId('decision'),
    holdId: newId('hold'),
    network,
    asset: networks.sandbox.asset.address,
    payer: payer.address,
    nonce: toHex(crypto.getRandomValues(new Uint8Array(32))),
    payTo: newAccount().address,
    amount: 10_000n,
    resource: 'https://api.example.com/x',
    validBefore: (await chain.settledTime()) + BigInt(seconds),
    createdAt: new Date(),
  };
  await context.db.query(
    `INSERT INTO outgoing_payments (environment_id, id, agent_id, delegation_id, decision_id, hold_id, network, asset, payer,
       nonce, pay_to, amount, resource, valid_before, created_at, state)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 'signed')`,
    Object.values(payment),
  );
  await context.db.query(
    `INSERT INTO holds (environment_id, id, decision_id, delegation_id, currency, amount, state, created_at)
     VALUES ($1, $2, $3, $4, 'USDC', $5, 'held', now())`,
    [environmentId, payment.holdId, payment.decisionId, payment.delegationId, payment.amount],
  );
  return payment;
}

async function spend(payer: PrivateKeyAccount, payment: Signed): Promise<Hex> {
  const authorization = {
    from: payment.payer,
    to: payment.payTo,
    value: payment.amount,
    validAfter: BigInt(Math.floor(payment.createdAt.getTime() / 1000)) - 600n,
    validBefore: payment.validBefore,
    nonce: payment.nonce,
  };
  const args = withParts(authorization, await signTransfer(payer, authorization));
  const data = encodeFunctionData({
    abi: fiatTokenAbi,
    functionName: 'transferWithAuthorization',
    args,
  });
  const hash = await usdc.client.sendTransaction({ account: usdc.relayer, to: payment.asset, data });
  await usdc.client.waitForTransactionReceipt({ hash });
  return hash;
}

async function endOf(payment: Signed) {
  const [row] = await context.db.query<{ state: string; transaction: string | null; hold: string }>(
    `SELECT p.state, p.transaction, h.state AS hold FROM outgoing_payments p
     JOIN holds h ON h.environment_id = p.environment_id AND h.id = p.hold_id WHERE p.id = $1`,
    [payment.id],
  );
  return row;
}

type Signed = Awaited<ReturnType<typeof sign>>;

describe('payments whose time is over', () => {
  it('end as the chain says: captured where it was spent, released where it never can be', async () => {
    const payer = await usdc.newPayer();
    const [spent, unspent, running] = [
      await sign(payer, 60),
      await sign(payer, 60),
      await sign(payer, 100_000),
    ];
    const transaction = await spend(payer, spent);
    await usdc.client.increaseTime({ seconds: 120 });
    await usdc.client.mine({ blocks: 1 });
    await closeExpired(context, chain);
    expect(await endOf(spent)).toEqual({ state: 'settled', transaction, hold: 'captured' });
    expect(await endOf(unspent)).toEqual({ state: 'released', transaction: null, hold: 'released' });
    expect(await endOf(running)).toEqual({ state: 'signed', transaction: null, hold: 'held' });
  });

  it('are spent also where no log within reach says what used the nonce', async () => {
    const payer = await usdc.newPayer();
    const spent = await sign(payer, 60);
    // As after hours in which nobody looked: the nonce is used, and our transfer isn't found.
    await spend(payer, { ...spent, payTo: newAccount().address });
    await usdc.client.increaseTime({ seconds: 120 });
    await usdc.client.mine({ blocks: 1 });
    await closeExpired(context, chain);
    expect(await endOf(spent)).toEqual({ state: 'settled', transaction: null, hold: 'captured' });
  });

  it('come to their turn behind any number that cannot be looked up', async () => {
    const payer = newAccount();
    for (let count = 0; count < 100; count += 1) await sign(payer, -1_000);
    await context.db.query(
      "UPDATE outgoing_payments SET nonce = '0xnone' || id WHERE state = 'signed' AND valid_before < $1",
      [BigInt(Math.floor(Date.now() / 1000)) - 500n],
    );
    const unspent = await sign(payer, -10);
    await expect(closeExpired(context, chain)).rejects.toThrow(/./);
    await closeExpired(context, chain);
    expect(await endOf(unspent)).toMatchObject({ state: 'released', hold: 'released' });
    await context.db.query("DELETE FROM outgoing_payments WHERE nonce LIKE '0xnone%'");
  });

  it('of one chain are found however many wait for another', async () => {
    const payer = newAccount();
    for (let count = 0; count < 100; count += 1) await sign(payer, -1_000, networks.production.id);
    const unspent = await sign(payer, -10);
    await closeExpired(context, chain);
    expect(await endOf(unspent)).toMatchObject({ state: 'released', hold: 'released' });
  });
});
