import { x402Client } from '@x402/core/client';
import { x402Facilitator } from '@x402/core/facilitator';
import type { PaymentPayload } from '@x402/core/types';
import { toFacilitatorEvmSigner } from '@x402/evm';
import { ExactEvmScheme as ExactEvmClient } from '@x402/evm/exact/client';
import { ExactEvmScheme as ExactEvmFacilitator } from '@x402/evm/exact/facilitator';
import { createPublicClient, createWalletClient, hashTypedData, http, type Address, type Hex } from 'viem';
import { baseSepolia } from 'viem/chains';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { baseSepoliaUsdc, fundAccount } from '../src/embedded/index.ts';
import { compileContract } from './compile.ts';
import { fundsAtomic, plantToken, type PlantedToken } from './test/planted-token.ts';
import { newAccount, signTransfer, withBytes, type Authorization } from './test/signatures.ts';

const networkId = 'eip155:84532';
const { abi, bytecode } = compileContract(new URL('test/KeyWallet.sol', import.meta.url));

let usdc: PlantedToken;
let facilitator: x402Facilitator;

beforeAll(async () => {
  usdc = await plantToken();
  const account = newAccount();
  await fundAccount(usdc.rpcUrl, { address: account.address, wei: 10n ** 18n });
  const chain = { chain: baseSepolia, transport: http(usdc.rpcUrl), pollingInterval: 20 };
  const wallet = createWalletClient({ account, ...chain });
  const reader = createPublicClient(chain);
  const signer = toFacilitatorEvmSigner({
    address: account.address,
    readContract: (call) => reader.readContract(call),
    verifyTypedData: ({ address, signature, ...signed }) =>
      reader.verifyHash({ address, signature, hash: hashTypedData(signed) }),
    getCode: (where) => reader.getCode(where),
    writeContract: (call) => wallet.writeContract(call),
    sendTransaction: (sent) => wallet.sendTransaction(sent),
    waitForTransactionReceipt: (sent) => reader.waitForTransactionReceipt(sent),
  });
  facilitator = new x402Facilitator().register(networkId, new ExactEvmFacilitator(signer));
});
afterAll(() => usdc.stop());

function terms(payTo: Address) {
  return {
    scheme: 'exact',
    network: networkId,
    amount: '10000',
    asset: baseSepoliaUsdc,
    payTo,
    maxTimeoutSeconds: 120,
    extra: { name: 'USDC', version: '2' },
  } as const;
}

describe('stock x402', () => {
  it('client pays, facilitator verifies and settles, once', async () => {
    const [payer, payee] = [await usdc.newPayer(), newAccount().address];
    const accepted = terms(payee);
    const client = new x402Client().register(networkId, new ExactEvmClient(payer));
    const resource = { url: 'http://localhost/demo' };
    const payload = await client.createPaymentPayload({ x402Version: 2, resource, accepts: [accepted] });

    expect(await facilitator.verify(payload, accepted)).toEqual({ isValid: true, payer: payer.address });
    expect(await facilitator.settle(payload, accepted)).toMatchObject({
      success: true,
      payer: payer.address,
    });
    expect(await facilitator.verify(payload, accepted)).toMatchObject({ isValid: false });

    expect(await usdc.read.balanceOf([payee])).toBe(10_000n);
    expect(await usdc.read.balanceOf([payer.address])).toBe(fundsAtomic - 10_000n);
  });

  it('facilitator refuses a payer who holds less than the price', async () => {
    const [payer, payee] = [await usdc.newPayer(9_999n), newAccount().address];
    const client = new x402Client().register(networkId, new ExactEvmClient(payer));
    const resource = { url: 'http://localhost/demo' };
    const payload = await client.createPaymentPayload({ x402Version: 2, resource, accepts: [terms(payee)] });
    expect(await facilitator.verify(payload, terms(payee))).toMatchObject({ isValid: false });
  });
});

/** A wallet of one key, with funds, and an authorization that the key signed in the wallet's own form. */
async function newWallet(): Promise<{ signed: Authorization; signature: Hex; foreign: Hex }> {
  const key = newAccount();
  const deployed = await usdc.client.waitForTransactionReceipt({
    hash: await usdc.client.deployContract({ abi, bytecode, args: [key.address], account: usdc.relayer }),
  });
  const wallet = deployed.contractAddress;
  if (wallet === null || wallet === undefined) throw new Error('the wallet was not deployed');
  await fundAccount(usdc.rpcUrl, { address: wallet, tokenAtomic: fundsAtomic });
  const signed = await usdc.authorize(wallet);
  const signature: Hex = `${await signTransfer(key, signed)}01`;
  return { signed, signature, foreign: `${await signTransfer(newAccount(), signed)}01` };
}

describe('a contract wallet (EIP-1271)', () => {
  it('pays by what it says is its signature, once, and by nothing else', async () => {
    const { signed, signature, foreign } = await newWallet();
    const pay = (proof: Hex) => usdc.settle('transferWithAuthorization', withBytes(signed, proof));

    const invalid = 'FiatTokenV2: invalid signature';
    expect(await pay(foreign)).toBe(invalid);
    // The key's plain signature is not the wallet's.
    expect(await pay(`0x${signature.slice(2, 132)}`)).toBe(invalid);
    expect(await pay('0x')).toBe(invalid);
    expect(await pay(signature)).toBe('accepted');
    expect(await pay(signature)).toBe('FiatTokenV2: authorization is used or canceled');
    expect(await usdc.read.balanceOf([signed.from])).toBe(fundsAtomic - signed.value);
    expect(await usdc.read.balanceOf([signed.to])).toBe(signed.value);
  });

  it('a payer with code that knows no EIP-1271 cannot pay', async () => {
    const { signed, signature } = await newWallet();
    const { address: from } = newAccount();
    await usdc.client.setCode({ address: from, bytecode: '0x00' });
    const args = withBytes({ ...signed, from }, signature);
    expect(await usdc.settle('transferWithAuthorization', args)).toBe('FiatTokenV2: invalid signature');
  });

  it('is verified and settled by the stock facilitator', async () => {
    const { signed, signature } = await newWallet();
    const { from, to, nonce } = signed;
    const { value, validAfter, validBefore } = signed;
    const authorization = {
      from,
      to,
      nonce,
      value: `${value}`,
      validAfter: `${validAfter}`,
      validBefore: `${validBefore}`,
    };
    const accepted = terms(to);
    const payload: PaymentPayload = { x402Version: 2, accepted, payload: { signature, authorization } };
    expect(await facilitator.verify(payload, accepted)).toEqual({ isValid: true, payer: from });
    expect(await facilitator.settle(payload, accepted)).toMatchObject({ success: true });
    expect(await usdc.read.balanceOf([to])).toBe(value);
  });
});
