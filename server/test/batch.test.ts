import {
  decodeErrorResult,
  decodeFunctionResult,
  encodeFunctionData,
  multicall3Abi,
  parseAbi,
  type Abi,
  type Address,
  type Hex,
} from 'viem';
import type { PrivateKeyAccount } from 'viem/accounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { baseSepoliaUsdc, multicall3Address, plantBatchContract } from '../src/embedded/index.ts';
import { encodeBatch, judgeBatchReceipt, type BatchCall } from '../src/x402/index.ts';
import { readArtifact, renderArtifact } from '../contracts/compile.ts';
import { fiatTokenAbi } from '../contracts/test/fiat-token-abi.ts';
import { fundsAtomic, plantToken, type PlantedToken } from '../contracts/test/planted-token.ts';
import { newAccount, signTransfer, withParts, type Authorization } from '../contracts/test/signatures.ts';

const gasMax = 16_000_000n;
const tokenContract = { address: baseSepoliaUsdc, abi: fiatTokenAbi } as const;
const faucetAbi = parseAbi(['function faucetMint(address to, uint256 value)']);
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
  if (answer.data === undefined) throw new Error('nothing answers at the address');
  return decodeFunctionResult({ abi: multicall3Abi, functionName: 'aggregate3', data: answer.data });
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

  it('offers aggregate3 as Multicall3 does', () => {
    const offered: Abi = JSON.parse(readArtifact('Batch'), (key, value: unknown) =>
      key === 'internalType' ? undefined : value,
    ).abi;
    const real = multicall3Abi.find(({ name }) => name === 'aggregate3');
    // It is payable; viem calls it a view, to read with it.
    expect(offered).toEqual([{ ...real, stateMutability: 'payable' }]);
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

  // The token asks a payer that has code (EIP-1271), with all the gas. By EIP-7702 any payer may get code after it was
  // verified; nothing in the contract bounds it, in Multicall3 neither.
  it('is undone as a whole by a payer that burns the gas, which loses no money', async () => {
    const { payers, payee } = await newPayers(20);
    const items = await Promise.all(payers.map((payer) => pay(payer, { to: payee })));
    const burner = payers[3];
    if (burner === undefined) throw new Error('there are twenty');
    await usdc.client.setCode({ address: burner.address, bytecode: burnerCode });

    const { status, gasUsed, logs } = await send(encodeBatch(items.map(({ call }) => call)), 1_200_000n);
    expect([status, logs]).toEqual(['reverted', []]);
    expect(gasUsed).toBeLessThanOrEqual(1_200_000n);

    const rest = items.filter(({ authorization }) => authorization.from !== burner.address);
    const again = await send(encodeBatch(rest.map(({ call }) => call)), 1_200_000n);
    expect([again.status, again.logs.length]).toEqual(['success', 2 * 19]);
  });
});

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
