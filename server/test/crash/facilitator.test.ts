import { type Address, createPublicClient, http, parseAbiItem } from 'viem';
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LocalChain, startLocalChain } from '../../contracts/test/local-chain.ts';
import { fundAccount, plantBatchContract, plantTestToken } from '../../src/embedded/index.ts';
import type { Point } from '../../src/kernel/points.ts';
import { networks } from '../../src/x402/index.ts';
import { openTestDatabase, type TestDatabase } from '../helpers/database.ts';
import { type FacilitatorBody, foreignTerms, newTenantKey, orderOf } from '../helpers/facilitator.ts';
import { findFreePort } from '../helpers/instance.ts';
import { authorizationOf, newPayer, openChain } from '../helpers/payer.ts';
import { type Answer, send } from '../helpers/request.ts';
import { price } from '../helpers/seller.ts';
import { type Member, openMember } from './fleet.ts';
import { relayer, relayerKey } from './payment-parts.ts';

const token = networks.sandbox.asset.address;
const used = parseAbiItem('event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)');

describe('a control plane that is killed while it settles for another API', { timeout: 120_000 }, () => {
  let local: LocalChain;
  let database: TestDatabase;
  let apiKey: string;
  let control: Member;
  let worker: Member;

  beforeAll(async () => {
    [local, database] = await Promise.all([startLocalChain(), openTestDatabase()]);
    await plantTestToken(local.rpcUrl, token);
    await plantBatchContract(local.rpcUrl);
    await fundAccount(local.rpcUrl, { address: relayer, wei: 10n ** 20n });
    const settings = {
      DATABASE_URL: database.url,
      CREDENCE_MODE: 'production',
      CREDENCE_MASTER_KEY: '07'.repeat(32),
      CREDENCE_PUBLIC_URL: 'https://control.test',
      CREDENCE_GATEWAY_URL: 'https://gateway.test',
      CREDENCE_HOST: '127.0.0.1',
      CREDENCE_LOG_LEVEL: 'warn',
      CREDENCE_SANDBOX_RPC_URL: local.rpcUrl,
      CREDENCE_SANDBOX_RELAYER_KEY: relayerKey,
    };
    control = openMember('control', 'control', settings, await findFreePort());
    worker = openMember('worker', 'worker', settings, await findFreePort());
    await Promise.all([control.start(), worker.start()]);
    apiKey = await newTenantKey(database.db);
  }, 120_000);
  afterAll(async () => {
    await Promise.all([control?.kill(), worker?.kill()]);
    await local?.stop();
  });

  const settle = (order: FacilitatorBody, idempotencyKey?: string): Promise<Answer> =>
    send(`${control.url}/facilitator/settle`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        authorization: `Bearer ${apiKey}`,
        ...(idempotencyKey === undefined ? {} : { 'idempotency-key': idempotencyKey }),
      },
      body: JSON.stringify(order),
    });
  const countUses = async (authorizer: Address, nonce: string) => {
    const args = { authorizer, nonce: nonce as Address };
    const client = createPublicClient({ transport: http(local.rpcUrl), cacheTime: 0 });
    return (await client.getLogs({ address: token, event: used, args, fromBlock: 0n })).length;
  };
  /** Makes the leases and the patience of the process that is gone run out now. */
  const age = async (nonce: string) => {
    await database.db.query(
      `UPDATE payments SET updated_at = updated_at - interval '1 hour' WHERE nonce = $1`,
      [nonce],
    );
    await database.db.query(
      `UPDATE settlement_transactions t SET lease_until = t.lease_until - interval '1 hour'
       FROM settlement_items i JOIN payments p ON p.id = i.payment_id
       WHERE (t.network, t.relayer, t.relayer_nonce) = (i.network, i.relayer, i.relayer_nonce) AND p.nonce = $1`,
      [nonce],
    );
  };
  const standingOf = async (nonce: string) => {
    const [row] = await database.db.query<{ standing: string }>(
      `SELECT concat_ws(' ', state, delivery) AS standing FROM payments WHERE nonce = $1`,
      [nonce],
    );
    return row?.standing;
  };

  /** Where it is killed, and what that leaves in the payment's row. */
  const rows: [at: Point, leaves: string][] = [
    ['claimed', 'responded'],
    ['examined', 'responded'],
    ['recording', 'responded'],
    ['recorded', 'settling'],
    ['sent', 'settling'],
    ['mined', 'settling'],
    ['concluded', 'settled'],
    ['answering', 'settled done'],
  ];
  it.each(rows)(
    'at %s leaves it %s: the same call again, by its Idempotency-Key, is told the truth, no other, and it is charged once',
    async (at, leaves) => {
      const payer = await newPayer({ info: { rpc_url: local.rpcUrl } }, 10n * price);
      const payTo = privateKeyToAccount(generatePrivateKey()).address;
      const order = await orderOf(payer, foreignTerms(payTo));
      const { nonce } = authorizationOf(order.paymentPayload);
      const name = `delivery-${at}`;
      await control.arm(at);
      const cut = settle(order, name).then(
        ({ text }) => text,
        () => 'cut',
      );
      await control.standing();
      await control.kill();
      expect([await cut, await standingOf(nonce)]).toEqual(['cut', leaves]);
      await age(nonce);
      await control.start();

      const told = { success: true, transaction: expect.stringMatching(/^0x[0-9a-f]{64}$/) };
      const answer = await settle(order, name);
      expect(answer.json()).toMatchObject(told);
      const copies = await Promise.all([settle(order, name), settle(order), settle(order, `another-${at}`)]);
      expect(copies[0]?.text).toBe(answer.text);
      for (const copy of copies.slice(1))
        expect([copy.status, copy.json().errorReason]).toEqual([200, 'invalid_transaction_state']);

      expect(await countUses(payer.address, nonce)).toBe(1);
      const { balanceOf } = openChain({ info: { rpc_url: local.rpcUrl } });
      expect([await balanceOf(payTo), await balanceOf(payer.address)]).toEqual([price, 9n * price]);
      const events = await database.db.query(
        `SELECT 1 FROM audit_events e JOIN payments p ON p.id = e.resource WHERE e.action = 'payment.settled' AND p.nonce = $1`,
        [nonce],
      );
      expect(events).toHaveLength(1);
    },
  );

  it('leaves to copies that have no key one delivery in all, whichever of them asks first', async () => {
    const payer = await newPayer({ info: { rpc_url: local.rpcUrl } }, price);
    const payTo = privateKeyToAccount(generatePrivateKey()).address;
    const order = await orderOf(payer, foreignTerms(payTo));
    const { nonce } = authorizationOf(order.paymentPayload);
    await control.arm('concluded');
    const cut = settle(order).catch(() => undefined);
    await control.standing();
    await control.kill();
    await cut;
    await age(nonce);
    await control.start();
    const answers = await Promise.all(Array.from({ length: 5 }, () => settle(order)));
    expect(answers.filter((answer) => answer.json().success)).toHaveLength(1);
    expect(await countUses(payer.address, nonce)).toBe(1);
  });
});
