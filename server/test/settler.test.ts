import { beforeAll, describe, expect, it } from 'vitest';
import { type Hex, zeroAddress } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { connect } from '../contracts/test/local-chain.ts';
import artifact from '../contracts/TestUsdc.json' with { type: 'json' };
import { fundAccount, plantTestToken } from '../src/embedded/index.ts';
import { type Authorization, type Chain, createSettler, networks, type Settler } from '../src/x402/index.ts';
import { claim, contextOf, newOrder, price, relayer, report, storeAnswer } from './crash/payment-parts.ts';
import { addRelayer, findLowRelayers, setRelayerActive } from '../src/x402/settlement/operate-relayers.ts';
import { blacklist } from './helpers/blacklist.ts';
import { answer, type Answered, type Ground, openGround } from './helpers/settlement.ts';

let ground: Ground;
let chain: Chain;
let settler: Settler;
beforeAll(async () => {
  ground = await openGround();
  ({ chain } = ground);
  settler = createSettler({ context: contextOf(ground.database.db), chain, report });
});

async function answerMany(count: number, funds: bigint): Promise<Answered[]> {
  const answered: Answered[] = [];
  for (let index = 0; index < count; index += 1) answered.push(await answer(ground, funds));
  return answered;
}

const settleAll = (answered: readonly Answered[], by: Settler = settler) =>
  Promise.all(answered.map(({ payment }) => by.settle(payment)));

/** `JUMPDEST PUSH0 JUMP`: an account that burns all the gas it is given. */
const burnerCode = '0x5b5f56';

describe('payments that wait at the same moment', () => {
  it('are settled by few transactions, and one that fails keeps none of the others', async () => {
    const answered = [...(await answerMany(20, price)), ...(await answerMany(3, 0n))];
    const settlements = await settleAll(answered);

    const settled = settlements.flatMap((one) => (one.kind === 'settled' ? [one.transaction] : []));
    expect(settled).toHaveLength(20);
    expect(new Set(settled).size).toBeLessThanOrEqual(2);
    expect(settlements.slice(20)).toEqual(
      Array.from({ length: 3 }, () => ({ kind: 'failed', reason: 'insufficient_funds' })),
    );
    for (const { payee, payment } of answered) {
      expect(await chain.balanceOf(payee)).toBe(
        settlements[answered.findIndex((one) => one.payment === payment)]?.kind === 'settled' ? price : 0n,
      );
    }
  });

  it('are charged once, and told once, when two processes settle the same ones', async () => {
    const answered = await answerMany(10, 10n * price);
    const other = createSettler({ context: contextOf(ground.database.db), chain, report });
    const [ours, theirs] = await Promise.all([settleAll(answered), settleAll(answered, other)]);
    expect(theirs).toEqual(ours);
    for (const { payee, payment } of answered) {
      expect(await chain.balanceOf(payee)).toBe(price);
      const query = "SELECT 1 FROM audit_events WHERE resource = $1 AND action = 'payment.settled'";
      expect(await ground.database.db.query(query, [payment.id])).toHaveLength(1);
    }
  });

  it('cost no gas where the chain would refuse them all', async () => {
    const before = await chain.transactionCount(relayer);
    expect(await settleAll(await answerMany(2, 0n))).toMatchObject([{ kind: 'failed' }, { kind: 'failed' }]);
    expect(await chain.transactionCount(relayer)).toBe(before);
  });

  it('are not settled from an account that has code: it could use up the gas of all', async () => {
    const [bad, ...good] = await answerMany(21, price);
    await connect(ground.local.rpcUrl).setCode({ address: bad?.payer.address ?? '0x', bytecode: burnerCode });
    const settlements = await settleAll(bad ? [bad, ...good] : good);
    expect(settlements[0]).toMatchObject({ kind: 'failed' });
    expect(settlements.slice(1)).toEqual(
      good.map(() => ({ kind: 'settled', transaction: expect.any(String) as string })),
    );
  });

  it('and then fail may be settled by asking again, once the payer has the money', async () => {
    const poor = await answer(ground, 0n);
    expect(await settleAll([poor])).toMatchObject([{ kind: 'failed' }]);
    await fundAccount(ground.local.rpcUrl, { address: poor.payer.address, tokenAtomic: price });
    expect(await settleAll([poor])).toMatchObject([{ kind: 'settled' }]);
    expect(await chain.balanceOf(poor.payee)).toBe(price);
  });
});

async function suspensionOf({ payment }: Answered): Promise<Date | null> {
  const query = 'SELECT suspended_until FROM payers WHERE payer = $1';
  const [row] = await ground.database.db.query<{ suspendedUntil: Date | null }>(query, [payment.payer]);
  return row?.suspendedUntil ?? null;
}

/** As `answer`, of what is signed otherwise. */
async function answerSigned(authorization: Partial<Authorization>): Promise<Answered> {
  const context = contextOf(ground.database.db);
  const scene = await newOrder(undefined, authorization);
  await fundAccount(ground.local.rpcUrl, { address: scene.payer.address, tokenAtomic: price });
  const payment = await claim(context, scene);
  await storeAnswer(context, payment);
  return { ...scene, payment };
}

const nowSeconds = () => BigInt(Math.floor(Date.now() / 1000));

describe('a payer', () => {
  it('is suspended that has not got the money any more', async () => {
    const poor = await answer(ground, price - 1n);
    expect(await settleAll([poor])).toEqual([{ kind: 'failed', reason: 'insufficient_funds' }]);
    expect(await suspensionOf(poor)).not.toBeNull();
  });

  it('is suspended that has put code in its place', async () => {
    const bad = await answer(ground);
    await connect(ground.local.rpcUrl).setCode({ address: bad.payer.address, bytecode: burnerCode });
    expect(await settleAll([bad])).toMatchObject([{ kind: 'failed' }]);
    expect(await suspensionOf(bad)).not.toBeNull();
  });

  it('is suspended that the token has blacklisted, whoever is paid', async () => {
    const { local } = ground;
    const [bad, worse] = await answerMany(2, price);
    if (!bad || !worse) throw new Error('two were answered');
    for (const account of [bad.payer.address, worse.payer.address, worse.payee])
      await blacklist(local.rpcUrl, account);
    const refused = { kind: 'failed', reason: 'transfer_refused' };
    expect(await settleAll([bad, worse])).toEqual([refused, refused]);
    expect(await suspensionOf(bad)).not.toBeNull();
    expect(await suspensionOf(worse)).not.toBeNull();
  });

  it('is not blamed where the token does not say whom it refuses', async () => {
    const { rpcUrl } = ground.local;
    const token = networks.sandbox.asset.address;
    const unlisted = await answer(ground);
    await blacklist(rpcUrl, unlisted.payer.address);
    // The selector of `isBlacklisted(address)`.
    const bytecode = artifact.deployedBytecode.replace('fe575a87', 'fe575a86') as Hex;
    expect(bytecode).not.toBe(artifact.deployedBytecode);
    await connect(rpcUrl).setCode({ address: token, bytecode });
    expect(await settleAll([unlisted])).toEqual([{ kind: 'failed', reason: 'transfer_refused' }]);
    expect(await suspensionOf(unlisted)).toBeNull();
    await plantTestToken(rpcUrl, token);
  });

  it('is not blamed for a payee that the token has blacklisted', async () => {
    const honest = await answer(ground);
    await blacklist(ground.local.rpcUrl, honest.payee);
    expect(await settleAll([honest])).toEqual([{ kind: 'failed', reason: 'transfer_refused' }]);
    expect(await suspensionOf(honest)).toBeNull();
  });

  it.each([
    ['nobody', zeroAddress],
    ['the token itself', networks.sandbox.asset.address],
  ])('is not blamed for a payee that the token refuses: %s', async (_who, to) => {
    const honest = await answerSigned({ to });
    expect(await settleAll([honest])).toEqual([{ kind: 'failed', reason: 'transfer_refused' }]);
    expect(await suspensionOf(honest)).toBeNull();
  });

  it('is not blamed for a settlement that came too late', async () => {
    const late = await answerSigned({ validBefore: nowSeconds() - 1n });
    expect(await settleAll([late])).toEqual([
      { kind: 'failed', reason: 'invalid_exact_evm_payload_authorization_valid_before' },
    ]);
    expect(await suspensionOf(late)).toBeNull();
  });

  it('is not blamed for a chain that has made no block since the payment became good', async () => {
    const before = await answer(ground);
    const { timestamp } = await connect(ground.local.rpcUrl).getBlock();
    await expect.poll(nowSeconds, { timeout: 5_000 }).toBeGreaterThan(timestamp + 1n);
    const context = contextOf(ground.database.db);
    const early = await newOrder(before.payer, { validAfter: timestamp + 1n });
    const payment = await claim(context, early);
    await storeAnswer(context, payment);
    expect(await settler.settle(payment)).toMatchObject({ kind: 'settled' });
  });

  it('waits where the time of its payment has not come', async () => {
    const early = await answerSigned({ validAfter: nowSeconds() + 2n });
    expect(await settleAll([early])).toMatchObject([{ kind: 'settled' }]);
    expect(await suspensionOf(early)).toBeNull();
  });
});

describe('a batch that reverts as a whole', () => {
  it('is tried again in halves, so that one payment cannot keep the others', async () => {
    // Code that never ends, in a payer's account, takes all the gas of the batch; the checks that keep it out are off.
    const answered = await answerMany(4, price);
    const [burner] = answered;
    await connect(ground.local.rpcUrl).setCode({
      address: burner?.payer.address ?? '0x',
      bytecode: burnerCode,
    });
    const unwary: Chain = {
      ...chain,
      examine: async (payments) => ({
        verdicts: payments.map(() => 'passes' as const),
        fees: await chain.fees(),
      }),
    };
    const settlements = await settleAll(
      answered,
      createSettler({ context: contextOf(ground.database.db), chain: unwary, report }),
    );
    expect(settlements.slice(1)).toMatchObject([
      { kind: 'settled' },
      { kind: 'settled' },
      { kind: 'settled' },
    ]);
    expect(settlements[0]?.kind).not.toBe('settled');
  }, 60_000);
});

/** How many transactions each relayer has signed. */
async function byRelayer(): Promise<Map<string, number>> {
  const rows = await ground.database.db.query<{ relayer: string; count: bigint }>(
    'SELECT relayer, count(*) FROM settlement_transactions GROUP BY relayer',
  );
  return new Map(rows.map((row) => [row.relayer, Number(row.count)]));
}

describe('several relayers', () => {
  const keys = [`0x${'6a'.repeat(32)}`, `0x${'6b'.repeat(32)}`] as const;
  const [second, third] = keys.map((key) => privateKeyToAccount(key).address);
  it('take turns, and one that is out of gas or switched off keeps no payment', async () => {
    const context = contextOf(ground.database.db);
    const chains = new Map([[chain.network.id, { chain }]]);
    await fundAccount(ground.local.rpcUrl, { address: second ?? relayer, wei: 10n ** 20n });
    for (const privateKey of keys)
      await addRelayer(context, chains, { network: chain.network.id, privateKey });
    const before = await byRelayer();
    const own = createSettler({ context, chain, report });

    const kinds: string[] = [];
    for (let index = 0; index < 7; index += 1) {
      const [settlement] = await settleAll([await answer(ground)], own);
      kinds.push(settlement?.kind ?? '');
    }
    // The third has no gas: what it signed waits for some, and it isn't asked again for a while.
    expect(kinds.toSorted()).toEqual(['pending', ...Array.from({ length: 6 }, () => 'settled')]);
    const after = await byRelayer();
    const signed = [relayer, second, third].map(
      (address = relayer) => (after.get(address) ?? 0) - (before.get(address) ?? 0),
    );
    expect(signed).toEqual([3, 3, 1]);

    await setRelayerActive(context, chains, { address: second ?? '', network: undefined, active: false });
    const [last] = await settleAll([await answer(ground)], own);
    expect(last?.kind).toBe('settled');
    expect((await byRelayer()).get(second ?? '')).toBe(after.get(second ?? ''));
    expect(await findLowRelayers(ground.database.db, chain)).toMatchObject([
      { address: third, balance: '0' },
    ]);
  });
});
