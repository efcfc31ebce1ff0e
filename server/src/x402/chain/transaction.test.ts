import * as fc from 'fast-check';
import { getAddress, type Hex, keccak256, parseTransaction } from 'viem';
import { privateKeyToAccount } from 'viem/accounts';
import { expect, it } from 'vitest';
import { loadNativeBackend, loadWasmBackend } from '../exact/signature-backend.ts';
import { type ContractCall, signCall } from './transaction.ts';

const hexOf = (minLength: number, maxLength = minLength) =>
  fc.uint8Array({ minLength, maxLength }).map((array): Hex => `0x${Buffer.from(array).toString('hex')}`);
const fee = fc.bigInt({ min: 0n, max: 2n ** 96n });

const calls: fc.Arbitrary<ContractCall> = fc.record({
  chainId: fc.integer({ min: 1, max: 2 ** 31 }),
  nonce: fc.bigInt({ min: 0n, max: 2n ** 40n }),
  maxPriorityFeePerGas: fee,
  maxFeePerGas: fee,
  gas: fc.bigInt({ min: 0n, max: 2n ** 40n }),
  to: hexOf(20).map((address) => getAddress(address)),
  // Around 55 bytes and 64 KiB the form of the length changes.
  data: fc.oneof(hexOf(0, 60), hexOf(200, 300), hexOf(65_500, 65_600)),
});
const keys = fc.bigInt({ min: 1n, max: 2n ** 255n }).map((key) => key.toString(16).padStart(64, '0'));

it.each(['native', 'wasm'] as const)(
  'a call is signed by the %s build as viem signs it, byte for byte',
  async (name) => {
    const backend = name === 'native' ? loadNativeBackend() : await loadWasmBackend();
    await fc.assert(
      fc.asyncProperty(calls, keys, async (call, key) => {
        const { nonce, maxFeePerGas, maxPriorityFeePerGas, ...rest } = call;
        // viem refuses a tip above the fee before it signs.
        const tip = maxPriorityFeePerGas > maxFeePerGas ? maxFeePerGas : maxPriorityFeePerGas;
        const expected = await privateKeyToAccount(`0x${key}`).signTransaction({
          ...rest,
          type: 'eip1559',
          nonce: Number(nonce),
          maxFeePerGas,
          maxPriorityFeePerGas: tip,
        });
        const signed = signCall({ ...call, maxPriorityFeePerGas: tip }, Buffer.from(key, 'hex'), backend);
        expect(signed.raw).toBe(expected);
        expect(signed.hash).toBe(keccak256(expected));
        expect(parseTransaction(signed.raw).to?.toLowerCase()).toBe(call.to.toLowerCase());
      }),
      { numRuns: 100 },
    );
  },
);
