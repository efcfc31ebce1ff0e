import { afterAll, beforeAll, expect, it } from 'vitest';
import { plantToken, type PlantedToken } from '../contracts/test/planted-token.ts';
import { newAccount, newNonce, signTransfer, withBytes } from '../contracts/test/signatures.ts';
import { plantBatchContract } from '../src/embedded/index.ts';
import { ChainUnavailableError, createChain, networks } from '../src/x402/index.ts';

let usdc: PlantedToken;
beforeAll(async () => {
  usdc = await plantToken();
  await plantBatchContract(usdc.rpcUrl);
});
afterAll(() => usdc.stop());

const openChain = (network = networks.sandbox) =>
  createChain({ network, rpcUrl: usdc.rpcUrl, finality: 'instant' });

it("a payer's state is its balance, and whether it has used the nonce", async () => {
  const { payerState } = openChain();
  const payer = await usdc.newPayer(5_000_000n);
  const signed = await usdc.authorize(payer.address);
  expect(await payerState(payer.address, signed.nonce)).toMatchObject({
    balance: 5_000_000n,
    nonceUsed: false,
    hasCode: false,
  });

  await usdc.send('transferWithAuthorization', withBytes(signed, await signTransfer(payer, signed)));
  // Another process, which has seen nothing of the block before.
  const fresh = openChain();
  const [after, other, stranger, known] = await Promise.all([
    fresh.payerState(payer.address, signed.nonce),
    fresh.payerState(payer.address, newNonce()),
    fresh.payerState(newAccount().address, newNonce()),
    payerState(payer.address, newNonce(), performance.now()),
  ]);
  expect(known).toMatchObject({ balance: 4_990_000n, nonceUsed: false, hasCode: false });
  expect(after).toMatchObject({ balance: 4_990_000n, nonceUsed: true, hasCode: false });
  expect(other).toMatchObject({ balance: 4_990_000n, nonceUsed: false, hasCode: false });
  expect(stranger).toMatchObject({ balance: 0n, nonceUsed: false, hasCode: false });
});

it('a payer with code is told apart, as the token would not look at its signature', async () => {
  const { payerState } = openChain(networks.sandbox);
  expect(await payerState(networks.sandbox.asset.address, newNonce())).toMatchObject({ hasCode: true });
});

it("a payer's state is not known where there is no token", async () => {
  const { payerState } = openChain(networks.production);
  await expect(payerState(newAccount().address, newNonce())).rejects.toThrow(ChainUnavailableError);
});
