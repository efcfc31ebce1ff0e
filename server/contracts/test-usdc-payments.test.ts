import * as fc from 'fast-check';
import { toHex, zeroAddress, type Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { baseSepoliaUsdc } from '../src/embedded/index.ts';
import { fundsAtomic, plantToken, type PlantedToken } from './test/planted-token.ts';
import {
  signingDomain,
  newAccount,
  parts,
  signTransfer,
  signingTypes,
  withBytes,
  withParts,
  type Authorization,
} from './test/signatures.ts';

const curveOrder = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;
const invalidSignature = 'FiatTokenV2: invalid signature';
const authorizationUsed = 'FiatTokenV2: authorization is used or canceled';

function flipBit(hex: Hex, bit: number): Hex {
  return toHex(BigInt(hex) ^ (1n << BigInt(bit)), { size: (hex.length - 2) / 2 });
}

let usdc: PlantedToken;
beforeAll(async () => {
  usdc = await plantToken();
});
afterAll(() => usdc.stop());

describe('transferWithAuthorization', () => {
  it.each([
    ['(v, r, s)', withParts],
    ['(bytes signature)', withBytes],
  ] as const)('%s moves exactly the amount, once', async (_, argumentsOf) => {
    const payer = await usdc.newPayer();
    const supply = await usdc.read.totalSupply();
    const signed = await usdc.authorize(payer.address);
    const args = argumentsOf(signed, await signTransfer(payer, signed));
    expect(await usdc.read.authorizationState([signed.from, signed.nonce])).toBe(false);

    const hash = await usdc.send('transferWithAuthorization', args);

    const { from, to, value, nonce } = signed;
    expect(await usdc.eventsOf(hash)).toEqual([
      { eventName: 'AuthorizationUsed', args: { authorizer: from, nonce } },
      { eventName: 'Transfer', args: { from, to, value } },
    ]);
    expect(await usdc.answer('transferWithAuthorization', args)).toBe(authorizationUsed);
    expect(await usdc.read.balanceOf([from])).toBe(fundsAtomic - value);
    expect(await usdc.read.balanceOf([to])).toBe(value);
    expect(await usdc.read.totalSupply()).toBe(supply);
    expect(await usdc.read.authorizationState([from, nonce])).toBe(true);
  });

  it('sent twice in one block is paid once', async () => {
    const payer = await usdc.newPayer();
    const signed = await usdc.authorize(payer.address);
    const args = withBytes(signed, await signTransfer(payer, signed));
    await usdc.client.setAutomine(false);
    const first = await usdc.post('transferWithAuthorization', args);
    const second = await usdc.post('transferWithAuthorization', args);
    await usdc.client.mine({ blocks: 1 });
    await usdc.client.setAutomine(true);

    const receipts = await Promise.all(
      [first, second].map((hash) => usdc.client.waitForTransactionReceipt({ hash })),
    );
    expect(receipts.map(({ status }) => status)).toEqual(['success', 'reverted']);
    expect(receipts[0]?.blockNumber).toBe(receipts[1]?.blockNumber);
    expect(await usdc.read.balanceOf([payer.address])).toBe(fundsAtomic - signed.value);
  });

  it.each([
    ['at validAfter', 0n, 600n, 'FiatTokenV2: authorization is not yet valid'],
    ['before validAfter', 60n, 600n, 'FiatTokenV2: authorization is not yet valid'],
    ['at validBefore', -600n, 0n, 'FiatTokenV2: authorization is expired'],
    ['after validBefore', -600n, -60n, 'FiatTokenV2: authorization is expired'],
    ['in the one second between', -1n, 1n, 'accepted'],
  ])('%s: %s .. %s seconds from now: %s', async (_, after, before, outcome) => {
    const payer = await usdc.newPayer();
    const time = (await usdc.chainNow()) + 1_000n;
    const window = { validAfter: time + after, validBefore: time + before };
    const signed = await usdc.authorize(payer.address, window);
    const args = withBytes(signed, await signTransfer(payer, signed));
    expect(await usdc.answer('transferWithAuthorization', args, { time })).toBe(outcome);
  });

  it.each<[string, Partial<Authorization>, string]>([
    ['more than the balance', { value: fundsAtomic + 1n }, 'ERC20: transfer amount exceeds balance'],
    ['the zero address as payee', { to: zeroAddress }, 'ERC20: transfer to the zero address'],
    ['the token as payee', { to: baseSepoliaUsdc }, 'Blacklistable: account is blacklisted'],
    ['the whole balance', { value: fundsAtomic }, 'accepted'],
    ['nothing', { value: 0n }, 'accepted'],
  ])('%s: refused or not, and a refused nonce stays unused', async (_, changed, outcome) => {
    const payer = await usdc.newPayer();
    const signed = await usdc.authorize(payer.address, changed);
    expect(
      await usdc.settle('transferWithAuthorization', withBytes(signed, await signTransfer(payer, signed))),
    ).toBe(outcome);
    expect(await usdc.read.authorizationState([signed.from, signed.nonce])).toBe(outcome === 'accepted');
  });

  it('to oneself keeps the balance', async () => {
    const payer = await usdc.newPayer();
    const signed = await usdc.authorize(payer.address, { to: payer.address });
    await usdc.send('transferWithAuthorization', withBytes(signed, await signTransfer(payer, signed)));
    expect(await usdc.read.balanceOf([payer.address])).toBe(fundsAtomic);
  });

  it('takes one form of a signature only', async () => {
    const payer = await usdc.newPayer();
    const signed = await usdc.authorize(payer.address);
    const signature = await signTransfer(payer, signed);
    const [v, r, s] = parts(signature);
    const body = signature.slice(2, 130);
    const highS = toHex(curveOrder - BigInt(s), { size: 32 });
    const forms: [Hex, string][] = [
      [`0x${r.slice(2)}${highS.slice(2)}${toHex(55 - v).slice(2)}`, "ECRecover: invalid signature 's' value"],
      [`0x${body}${toHex(v - 27, { size: 1 }).slice(2)}`, "ECRecover: invalid signature 'v' value"],
      [`0x${body}`, 'ECRecover: invalid signature length'],
      [`${signature}00`, 'ECRecover: invalid signature length'],
      ['0x', 'ECRecover: invalid signature length'],
      [`0x${'00'.repeat(64)}1b`, 'ECRecover: invalid signature'],
      [`0x${body}${toHex(55 - v).slice(2)}`, invalidSignature],
      [await signTransfer(newAccount(), signed), invalidSignature],
    ];
    for (const [form, reason] of forms)
      expect([form, await usdc.settle('transferWithAuthorization', withBytes(signed, form))]).toEqual([
        form,
        reason,
      ]);
    expect(await usdc.settle('transferWithAuthorization', withBytes(signed, signature))).toBe('accepted');
  });

  it('lets nobody pay from the zero address by a signature that recovers to nothing', async () => {
    const signed = await usdc.authorize(zeroAddress, { value: 0n });
    expect(await usdc.settle('transferWithAuthorization', withBytes(signed, `0x${'00'.repeat(64)}1b`))).toBe(
      'ECRecover: invalid signature',
    );
  });
});

describe('a signature', () => {
  const fieldNames = ['from', 'to', 'value', 'validAfter', 'validBefore', 'nonce'] as const;

  it('holds for the authorization it was made for, and no other', async () => {
    const [payer, other] = [await usdc.newPayer(), await usdc.newPayer()];
    const signed = await usdc.authorize(payer.address);
    const signature = await signTransfer(payer, signed);
    const change = (field: (typeof fieldNames)[number], by: bigint): Authorization => {
      const bit = Number(by % 160n);
      const changes = {
        from: { from: other.address },
        to: { to: flipBit(signed.to, bit) },
        value: { value: signed.value ^ by },
        // Still inside the window, so that the signature alone can refuse it.
        validAfter: { validAfter: signed.validAfter - (by % 1_000_000n) - 1n },
        validBefore: { validBefore: signed.validBefore + by },
        nonce: { nonce: flipBit(signed.nonce, Number(by % 256n)) },
      };
      return { ...signed, ...changes[field] };
    };
    const by = fc.bigInt({ min: 1n, max: 2n ** 64n });
    const refused = fc.asyncProperty(fc.constantFrom(...fieldNames), by, async (field, amount) => {
      const args = withBytes(change(field, amount), signature);
      expect(await usdc.answer('transferWithAuthorization', args)).toBe(invalidSignature);
    });
    await fc.assert(refused, { numRuns: 120 });

    expect(await usdc.settle('transferWithAuthorization', withBytes(signed, signature))).toBe('accepted');
    expect(await usdc.read.balanceOf([signed.to])).toBe(signed.value);
  });

  it('with any one bit changed is refused', async () => {
    const payer = await usdc.newPayer();
    const signed = await usdc.authorize(payer.address);
    const signature = await signTransfer(payer, signed);
    const refused = fc.asyncProperty(fc.integer({ min: 0, max: 65 * 8 - 1 }), async (bit) => {
      const args = withBytes(signed, flipBit(signature, bit));
      expect(await usdc.answer('transferWithAuthorization', args)).toMatch(
        /^(FiatTokenV2|ECRecover): invalid/,
      );
    });
    await fc.assert(refused, { numRuns: 60 });
    const args = withBytes(signed, signature);
    expect(await usdc.answer('transferWithAuthorization', args)).toBe('accepted');
  });

  it.each([
    ['name', { name: 'USD Coin' }],
    ['version', { version: '1' }],
    ['chain', { chainId: 8453 }],
    ['contract', { verifyingContract: '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913' }],
  ] as const)('for a token of another %s is refused', async (_, other) => {
    const payer = await usdc.newPayer();
    const message = await usdc.authorize(payer.address);
    const primaryType = 'TransferWithAuthorization';
    const domain = { ...signingDomain, ...other };
    const signature = await payer.signTypedData({ domain, types: signingTypes, primaryType, message });
    const args = withBytes(message, signature);
    expect(await usdc.answer('transferWithAuthorization', args)).toBe(invalidSignature);
  });
});
