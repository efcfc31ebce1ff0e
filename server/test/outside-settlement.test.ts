import { encodeFunctionData } from 'viem';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fiatTokenAbi } from '../contracts/test/fiat-token-abi.ts';
import { type PlantedToken, plantToken } from '../contracts/test/planted-token.ts';
import { type Authorization, newAccount, signTransfer, withParts } from '../contracts/test/signatures.ts';
import { baseSepoliaUsdc, multicall3Address, plantBatchContract } from '../src/embedded/index.ts';
import { type BatchCall, createChain, encodeBatch, networks } from '../src/x402/index.ts';

let usdc: PlantedToken;
beforeAll(async () => {
  usdc = await plantToken();
  await plantBatchContract(usdc.rpcUrl);
});
afterAll(() => usdc.stop());

describe('a payment that somebody else has sent to the chain', () => {
  it('is settled by its own transfer only, not by its twin of the same transaction', async () => {
    const chain = createChain({ network: networks.sandbox, rpcUrl: usdc.rpcUrl, finality: 'instant' });
    const payer = await usdc.newPayer();
    const seller = newAccount().address;
    const callOf = async (authorization: Authorization): Promise<BatchCall> => ({
      target: baseSepoliaUsdc,
      callData: encodeFunctionData({
        abi: fiatTokenAbi,
        functionName: 'transferWithAuthorization',
        args: withParts(authorization, await signTransfer(payer, authorization)),
      }),
    });
    const paid = await usdc.authorize(payer.address, { to: seller });
    const twin = await usdc.authorize(payer.address, { to: seller });
    // The payer signs the twin's nonce once more, for itself, and lets one transaction hold it beside the real payment.
    const calls = [await callOf(paid), await callOf({ ...twin, to: payer.address })];
    const hash = await usdc.client.sendTransaction({
      account: usdc.relayer,
      to: multicall3Address,
      data: encodeBatch(calls),
      gas: 1_000_000n,
    });
    await usdc.client.waitForTransactionReceipt({ hash });

    expect(await chain.isNonceUsed(twin.from, twin.nonce)).toBe(true);
    expect(await chain.findSettlement(paid)).toBe(hash);
    expect(await chain.findSettlement(twin)).toBeUndefined();
  });
});
