import {
  decodeErrorResult,
  decodeFunctionResult,
  encodeFunctionData,
  multicall3Abi,
  numberToHex,
  parseAbi,
  type Abi,
  type Address,
  type Hex,
} from 'viem';
import type { PrivateKeyAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { baseSepoliaUsdc, multicall3Address, plantBatchContract } from '../src/embedded/index.ts';
import { limits } from '../src/kernel/limits.ts';
import { batchGas } from '../src/x402/chain/batch-call.ts';
import { encodeBatch, judgeBatchReceipt, type BatchCall } from '../src/x402/index.ts';
import { readArtifact, renderArtifact } from '../contracts/compile.ts';
import { fiatTokenAbi } from '../contracts/test/fiat-token-abi.ts';
import { fundsAtomic, plantToken, type PlantedToken } from '../contracts/test/planted-token.ts';
import { newAccount, signTransfer, withParts, type Authorization } from '../contracts/test/signatures.ts';

const gasMax = 16_000_000n;
const tokenContract = { address: baseSepoliaUsdc, abi: fiatTokenAbi } as const;
const faucetAbi = parseAbi(['function faucetMint(address to, uint256 value)']);
const blockNumberAbi = parseAbi(['function getBlockNumber() view returns (uint256 blockNumber)']);
/** `JUMPDEST PUSH0 JUMP`: an account that burns all the gas it is given. */
const burnerCode: Hex = '0x5b5f56';

interface Item {
  authorization: Authorization;
  call: BatchCall;
}

let usdc: PlantedToken;
beforeAll(async () => {
  usdc = await plantToken();
  await plantBatchContract(usdc.rpcUrl);
});
afterAll(() => usdc.stop());

async function pay(
  payer: PrivateKeyAccount,
  changed: Partial<Authorization> = {},
  signer = payer,
): Promise<Item> {
  const authorization = await usdc.authorize(payer.address, changed);
  return itemOf(authorization, await signTransfer(signer, authorization));
}

function itemOf(authorization: Authorization, signature: Hex): Item {
  const args = withParts(authorization, signature);
  const callData = encodeFunctionData({ ...tokenContract, functionName: 'transferWithAuthorization', args });
  return { authorization, call: { target: baseSepoliaUsdc, callData } };
}

/** Payers with funds, and a payee that was paid before: all of them by one batch. */
async function newPayers(count: number) {
  const accounts = Array.from({ length: count }, newAccount);
  const payee = newAccount().address;
  const mints = [mint(payee, 1n), ...accounts.map(({ address }) => mint(address, fundsAtomic))];
  await send(encodeBatch(mints));
  return { payers: accounts, payee };
}

function mint(to: Address, value: bigint): BatchCall {
  const callData = encodeFunctionData({ abi: faucetAbi, functionName: 'faucetMint', args: [to, value] });
  return { target: baseSepoliaUsdc, callData };
}

async function send(data: Hex, gas = gasMax) {
  const hash = await usdc.client.sendTransaction({ account: usdc.relayer, to: multicall3Address, data, gas });
  return usdc.client.waitForTransactionReceipt({ hash });
}

/** What the batch would return if it were mined now. */
async function dryRun(data: Hex) {
  const answer = await usdc.client.call({ account: usdc.relayer, to: multicall3Address, data, gas: gasMax });
  return decodeAnswer(answer.data);
}

function decodeAnswer(data: Hex | undefined) {
  if (data === undefined) throw new Error('nothing answers at the address');
  return decodeFunctionResult({ abi: multicall3Abi, functionName: 'aggregate3', data });
}

function reasonOf({ success, returnData }: { success: boolean; returnData: Hex }): unknown {
  return success ? returnData : decodeErrorResult({ data: returnData }).args[0];
}

const balanceOf = (account: Address) => usdc.read.balanceOf([account]);

describe('what stands at the address of Multicall3', () => {
  it('is the committed artifact, which is what the source compiles to', async () => {
    expect(renderArtifact('Batch')).toBe(readArtifact('Batch'));
    await plantBatchContract(usdc.rpcUrl);
    expect(readArtifact('Batch')).toContain(`"${await usdc.client.getCode({ address: multicall3Address })}"`);
  });

  it('offers aggregate3 and getBlockNumber as Multicall3 does', async () => {
    const offered: Abi = JSON.parse(readArtifact('Batch'), (key, value: unknown) =>
      key === 'internalType' ? undefined : value,
    ).abi;
    const real = multicall3Abi.find(({ name }) => name === 'aggregate3');
    // It is payable; viem calls it a view, to read with it.
    expect(offered).toEqual([{ ...real, stateMutability: 'payable' }, ...blockNumberAbi]);
    const question = encodeFunctionData({ abi: blockNumberAbi });
    const [answer] = await dryRun(encodeBatch([{ target: multicall3Address, callData: question }]));
    expect(BigInt(answer?.returnData ?? '0x')).toBe(await usdc.client.getBlockNumber());
  });

  it('answers reads as Multicall3 itself does, whose code the other call carries along', async () => {
    const payer = await usdc.newPayer();
    const contracts = [
      { ...tokenContract, functionName: 'name' },
      { ...tokenContract, functionName: 'balanceOf', args: [payer.address] },
      { ...tokenContract, functionName: 'transferFrom', args: [payer.address, newAccount().address, 1n] },
      { ...tokenContract, address: newAccount().address, functionName: 'decimals' },
      { ...tokenContract, functionName: 'DOMAIN_SEPARATOR' },
    ] as const;
    const ours = await usdc.client.multicall({ contracts, multicallAddress: multicall3Address });
    const theirs = await usdc.client.multicall({ contracts, deployless: true });

    const outcomes = (list: typeof ours) =>
      list.map(({ status, result, error }) => [status, result, error?.message]);
    expect(outcomes(ours)).toEqual(outcomes(theirs));
    const said = ours.map(({ status }) => status);
    expect(said).toEqual(['success', 'success', 'failure', 'failure', 'success']);
    expect(ours[1].result).toBe(fundsAtomic);
  });

  it('returns what each call returns by itself, byte for byte', async () => {
    const account = newAccount().address;
    const calls = [
      encodeFunctionData({ ...tokenContract, functionName: 'name' }),
      encodeFunctionData({ ...tokenContract, functionName: 'balanceOf', args: [account] }),
      encodeFunctionData({ abi: faucetAbi, functionName: 'faucetMint', args: [account, 1n] }),
    ].map((callData) => ({ target: baseSepoliaUsdc, callData }));
    const alone = await Promise.all(
      calls.map(
        async ({ target: to, callData: data }) => (await usdc.client.call({ to, data })).data ?? '0x',
      ),
    );
    const returned = await dryRun(encodeBatch(calls));
    expect(returned).toEqual(alone.map((returnData) => ({ success: true, returnData })));
    expect(await dryRun(encodeBatch([]))).toEqual([]);
  });
});

describe('a batch of payments', () => {
  it('moves 45 of 50 exactly, while 5 fail, each for its own reason', async () => {
    const { payers, payee } = await newPayers(50);
    const items = await Promise.all(payers.map((payer) => pay(payer, { to: payee })));
    const faults = await addFaults(items, payers);
    const batch = items.map(({ authorization }) => authorization);
    const data = encodeBatch(items.map(({ call }) => call));
    const before = await Promise.all([payee, ...payers.map(({ address }) => address)].map(balanceOf));

    const foretold = await dryRun(data);
    const { status, logs } = await send(data);

    expect(status).toBe('success');
    expect(foretold.map(reasonOf)).toEqual(items.map((_, index) => faults.get(index) ?? '0x'));
    expect(judgeBatchReceipt(logs, batch, baseSepoliaUsdc)).toEqual(
      items.map((_, index) => (faults.has(index) ? 'failed' : 'settled')),
    );
    const after = await Promise.all([payee, ...payers.map(({ address }) => address)].map(balanceOf));
    const moved = after.map((balance, index) => balance - (before[index] ?? 0n));
    expect(moved).toEqual([450_000n, ...items.map((_, index) => (faults.has(index) ? 0n : -10_000n))]);
    expect(logs).toHaveLength(2 * 45);
  });

  it('gives payments that are alike but for the nonce a transfer each', async () => {
    const payer = await usdc.newPayer(25_000n);
    const to = newAccount().address;
    const items = [await pay(payer, { to }), await pay(payer, { to }), await pay(payer, { to })];
    const { logs } = await send(encodeBatch(items.map(({ call }) => call)));
    const batch = items.map(({ authorization }) => authorization);
    const answers = judgeBatchReceipt(logs, batch, baseSepoliaUsdc);
    expect(answers).toEqual(['settled', 'settled', 'failed']);
    expect(await balanceOf(to)).toBe(20_000n);
  });

  it('moves nothing if a call that must not fail does', async () => {
    const [good, poor] = [await pay(await usdc.newPayer()), await pay(newAccount())];
    const args = [
      [
        { ...good.call, allowFailure: true },
        { ...poor.call, allowFailure: false },
      ],
    ] as const;
    const data = encodeFunctionData({ abi: multicall3Abi, functionName: 'aggregate3', args });

    await expect(dryRun(data)).rejects.toThrow('Multicall3: call failed');
    const { status, logs } = await send(data);

    expect([status, logs]).toEqual(['reverted', []]);
    expect(await balanceOf(good.authorization.to)).toBe(0n);
    expect(await usdc.read.authorizationState([good.authorization.from, good.authorization.nonce])).toBe(
      false,
    );
  });

  it('costs at most 47,000 gas a payment to a payee of the batch, so that 300 fit into 16 million', async () => {
    const { payers, payee } = await newPayers(300);
    const items = await Promise.all(payers.map((payer) => pay(payer, { to: payee })));
    const { status, gasUsed, logs } = await send(encodeBatch(items.map(({ call }) => call)));
    expect([status, logs.length]).toEqual(['success', 600]);
    expect(gasUsed).toBeLessThan(47_000n * 300n);
  });

  // What Multicall3's own way of calling costs, measured before the token had a blacklist, which takes 571 more: 45,446, 50,199 and 67,299.
  it.each([
    ['one payee', 46_170n, (): (() => Address) => always(newAccount().address)],
    ['payees of their own, who hold the token', 50_920n, (payers: Payers) => eachItsOwn(payers)],
    ['payees of their own, who never held it', 68_020n, () => () => newAccount().address],
  ])('of 100 to %s costs at most %d gas each', async (_what, gasMaxEach, payeesFor) => {
    const { payers } = await newPayers(100);
    const nextPayee = payeesFor(payers);
    const first = nextPayee();
    await send(encodeBatch([mint(first, 1n)]));
    const items = await Promise.all(
      payers.map((payer, index) => pay(payer, { to: index === 0 ? first : nextPayee() })),
    );
    const { status, gasUsed, logs } = await send(encodeBatch(items.map(({ call }) => call)));
    expect([status, logs.length]).toEqual(['success', 200]);
    expect(gasUsed).toBeLessThan(gasMaxEach * 100n);
  });

  it('of the largest size, to payees who never held the token, fits into the gas that we send with it', async () => {
    const { payers } = await newPayers(limits.batchItems);
    const items = await Promise.all(payers.map((payer) => pay(payer)));
    const poor = await pay(newAccount());
    items[items.length - 1] = poor;
    const { status, logs } = await send(
      encodeBatch(items.map(({ call }) => call)),
      batchGas(limits.batchItems),
    );
    expect([status, logs.length]).toEqual(['success', 2 * (limits.batchItems - 1)]);
  });

  // The token asks a payer that has code (EIP-1271), and by EIP-7702 any payer may get code after it was verified.
  it('settles all but a payer that burns all the gas it is given', async () => {
    const { payers, payee } = await newPayers(20);
    const items = await Promise.all(payers.map((payer) => pay(payer, { to: payee })));
    const burner = payers[3];
    if (burner === undefined) throw new Error('there are twenty');
    await usdc.client.setCode({ address: burner.address, bytecode: burnerCode });

    const { status, gasUsed, logs } = await send(encodeBatch(items.map(({ call }) => call)), batchGas(20));
    expect([status, logs.length]).toEqual(['success', 2 * 19]);
    const verdicts = judgeBatchReceipt(
      logs,
      items.map(({ authorization }) => authorization),
      baseSepoliaUsdc,
    );
    expect(verdicts.flatMap((verdict, index) => (verdict === 'failed' ? [index] : []))).toEqual([3]);
    expect(gasUsed).toBeLessThan(19n * 50_000n + 150_000n + 30_000n);
  });

  it('burns 150,000 gas at most for each account that burns, wherever it stands', async () => {
    const { payers, payee } = await newPayers(4);
    const burner = newAccount().address;
    await usdc.client.setCode({ address: burner, bytecode: burnerCode });
    const items = await Promise.all(payers.map((payer) => pay(payer, { to: payee })));
    const burns = { target: burner, callData: '0x' as const };
    const calls = [burns, ...items.map(({ call }) => call), burns];
    const { status, gasUsed, logs } = await send(encodeBatch(calls));
    expect([status, logs.length]).toEqual(['success', 8]);
    expect(gasUsed).toBeLessThan(300_000n + 4n * 60_000n + 40_000n);
  });

  it('reverts as a whole where its gas runs short, and never says that an item failed of it', async () => {
    const { payers, payee } = await newPayers(2);
    const items = await Promise.all(payers.map((payer) => pay(payer, { to: payee })));
    const hungry = await plantHungry();
    const data = encodeBatch([...items.map(({ call }) => call), { target: hungry, callData: '0x' }]);
    const gasLimits = Array.from({ length: 320 }, (_, index) => 40_000n + 1_000n * BigInt(index));
    const answers = await callWith(data, gasLimits);
    const outcomes = answers.map((answer) =>
      answer === undefined
        ? 'reverted'
        : decodeAnswer(answer)
            .map(({ success }) => success)
            .join(),
    );
    expect(new Set(outcomes)).toEqual(new Set(['reverted', 'true,true,true']));
  });

  it('copies no more than a kilobyte of what an item answers, which would be gas that nothing bounds', async () => {
    const talker = newAccount().address;
    // PUSH2 4096 PUSH0 RETURN
    await usdc.client.setCode({ address: talker, bytecode: '0x6110005ff3' });
    const returned = await dryRun(encodeBatch([{ target: talker, callData: '0x' }]));
    expect(returned).toEqual([{ success: true, returnData: `0x${'00'.repeat(1024)}` }]);
  });
});

/**
 * An account that needs some 110,000 gas, and fails cleanly where it has less: it calls one that fills much memory at once, and reverts
 * if that one could not.
 */
async function plantHungry(): Promise<Address> {
  const [outer, inner] = [newAccount().address, newAccount().address];
  // PUSH0 PUSH3 0x034e40 MSTORE STOP
  await usdc.client.setCode({ address: inner, bytecode: '0x5f62034e405200' });
  // PUSH0*5 PUSH20 inner GAS CALL PUSH1 end JUMPI PUSH0 PUSH0 REVERT end: JUMPDEST STOP
  const bytecode: Hex = `0x5f5f5f5f5f73${inner.slice(2)}5af16022575f5ffd5b00`;
  await usdc.client.setCode({ address: outer, bytecode });
  return outer;
}

/** What the batch would return with each of these amounts of gas; nothing where it reverts. */
async function callWith(data: Hex, gasLimits: readonly bigint[]): Promise<(Hex | undefined)[]> {
  const calls = gasLimits.map((gas, id) => {
    const call = { from: usdc.relayer, to: multicall3Address, data, gas: numberToHex(gas) };
    return { jsonrpc: '2.0', id, method: 'eth_call', params: [call, 'latest'] };
  });
  const headers = { 'content-type': 'application/json' };
  const answer = await fetch(usdc.rpcUrl, { method: 'POST', headers, body: JSON.stringify(calls) });
  const answers = (await answer.json()) as { id: number; result?: Hex }[];
  const results = new Map(answers.map(({ id, result }) => [id, result]));
  return gasLimits.map((_, id) => results.get(id));
}

type Payers = readonly PrivateKeyAccount[];

function always(address: Address): () => Address {
  return () => address;
}

/** Each payer's neighbour, who has the token already. */
function eachItsOwn(payers: Payers): () => Address {
  let next = 0;
  return () => payers[(next += 1) % payers.length]?.address ?? newAccount().address;
}

/** Spoils five payments of a batch, each in another way, and says what the token will answer to them. */
async function addFaults(items: Item[], payers: readonly PrivateKeyAccount[]): Promise<Map<number, string>> {
  const payee = items[0]?.authorization.to ?? newAccount().address;
  const payerOf = (index: number) => payers[index] ?? newAccount();
  const now = await usdc.chainNow();
  items[4] = await pay(payerOf(4), { to: payee, validBefore: now - 1n });

  const usedBefore = await pay(payerOf(13), { to: newAccount().address });
  await send(encodeBatch([usedBefore.call]));
  items[13] = usedBefore;

  items[22] = await pay(payerOf(22), { to: payee, value: fundsAtomic + 1n });
  items[31] = await pay(payerOf(31), { to: payee }, newAccount());

  const signed = await usdc.authorize(payerOf(49).address, { to: payee });
  const elsewhere = { ...signed, to: newAccount().address };
  items[49] = itemOf(elsewhere, await signTransfer(payerOf(49), signed));
  return new Map([
    [4, 'FiatTokenV2: authorization is expired'],
    [13, 'FiatTokenV2: authorization is used or canceled'],
    [22, 'ERC20: transfer amount exceeds balance'],
    [31, 'FiatTokenV2: invalid signature'],
    [49, 'FiatTokenV2: invalid signature'],
  ]);
}
