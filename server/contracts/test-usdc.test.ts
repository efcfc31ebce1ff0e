import { domainSeparator, zeroAddress, type Abi, type AbiParameter, type Hex } from 'viem';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { baseSepoliaUsdc, fundAccount, plantTestToken } from '../src/embedded/index.ts';
import { readArtifact, renderArtifact } from './compile.ts';
import { fiatTokenAbi } from './test/fiat-token-abi.ts';
import { fundsAtomic, plantToken, type PlantedToken } from './test/planted-token.ts';
import {
  signingDomain,
  newAccount,
  parts,
  signTransfer,
  signingTypes,
  withBytes,
  withParts,
} from './test/signatures.ts';

const invalidSignature = 'FiatTokenV2: invalid signature';
const authorizationUsed = 'FiatTokenV2: authorization is used or canceled';
const artifactText = readArtifact('TestUsdc');

function types(parameters: readonly AbiParameter[]): string {
  return parameters
    .map((one) => ('indexed' in one && one.indexed === true ? `${one.type} indexed` : one.type))
    .join();
}

/** What a caller sees of an ABI item: names of parameters don't count, and pure is as good as view. */
function shape(item: Abi[number]): string {
  if (item.type === 'event') return `event ${item.name}(${types(item.inputs)})`;
  if (item.type !== 'function') return item.type;
  const reads = item.stateMutability === 'view' || item.stateMutability === 'pure';
  return `${item.name}(${types(item.inputs)}) ${reads ? 'reads' : 'writes'} (${types(item.outputs)})`;
}

let usdc: PlantedToken;
beforeAll(async () => {
  usdc = await plantToken();
});
afterAll(() => usdc.stop());

describe('what stands at the address', () => {
  it('is the committed artifact, which is what the source compiles to', async () => {
    expect(renderArtifact('TestUsdc')).toBe(artifactText);
    expect(artifactText).toContain(`"${await usdc.client.getCode({ address: baseSepoliaUsdc })}"`);
  });

  it('calls itself what Base Sepolia USDC calls itself', async () => {
    const { name, symbol, currency, version, decimals } = usdc.read;
    const answers = await Promise.all([name(), symbol(), currency(), version(), decimals()]);
    expect(answers).toEqual(['USDC', 'USDC', 'USD', '2', 6]);
  });

  it.each(fiatTokenAbi.map(shape))('offers %s as Circle does', (shaped) => {
    const offered: Abi = JSON.parse(artifactText).abi;
    expect(offered.map(shape)).toContain(shaped);
  });

  it('signs under the domain that wallets compute', async () => {
    expect(await usdc.read.DOMAIN_SEPARATOR()).toBe(domainSeparator({ domain: signingDomain }));
  });

  // The hashes are those of EIP-3009 and EIP-2612.
  it.each([
    [
      'TRANSFER_WITH_AUTHORIZATION_TYPEHASH',
      '0x7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267',
    ],
    [
      'RECEIVE_WITH_AUTHORIZATION_TYPEHASH',
      '0xd099cc98ef71107a616c4f0f941f04c322d8e254fe26b3c6668db87aae413de8',
    ],
    ['CANCEL_AUTHORIZATION_TYPEHASH', '0x158b0a9edf7a828aad02f63cd515c68ef2f50ba807396f6d12842833a1597429'],
    ['PERMIT_TYPEHASH', '0x6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9'],
  ] as const)('has the standard %s', async (name, hash) => {
    const read = { address: baseSepoliaUsdc, abi: fiatTokenAbi, functionName: name };
    expect(await usdc.client.readContract(read)).toBe(hash);
  });
});

describe('funding', () => {
  it('tops up to the stated funds, once, by a mint that the chain records', async () => {
    const { address } = newAccount();
    const supply = await usdc.read.totalSupply();
    await fundAccount(usdc.rpcUrl, { address, wei: 5n, tokenAtomic: 70n });
    await fundAccount(usdc.rpcUrl, { address, wei: 5n, tokenAtomic: 100n });
    await fundAccount(usdc.rpcUrl, { address, wei: 2n, tokenAtomic: 40n });

    expect(await usdc.read.balanceOf([address])).toBe(100n);
    expect(await usdc.client.getBalance({ address })).toBe(5n);
    expect((await usdc.read.totalSupply()) - supply).toBe(100n);
    const mints = await usdc.getEvents.Transfer({ to: address }, { fromBlock: 0n });
    expect(mints.map(({ args }) => [args.from, args.value])).toEqual([
      [zeroAddress, 70n],
      [zeroAddress, 30n],
    ]);
  });

  it('tops up many accounts at once', async () => {
    const addresses = Array.from({ length: 8 }, () => newAccount().address);
    await Promise.all(addresses.map((address) => fundAccount(usdc.rpcUrl, { address, tokenAtomic: 7n })));
    const held = await Promise.all(addresses.map((address) => usdc.read.balanceOf([address])));
    expect(held).toEqual(addresses.map(() => 7n));
  });

  it('planting again changes nothing; planting over other code keeps the balances', async () => {
    const payer = await usdc.newPayer();
    const code = await usdc.client.getCode({ address: baseSepoliaUsdc });
    await usdc.client.setCode({ address: baseSepoliaUsdc, bytecode: '0x00' });
    await plantTestToken(usdc.rpcUrl, baseSepoliaUsdc);
    await plantTestToken(usdc.rpcUrl, baseSepoliaUsdc);
    expect(await usdc.client.getCode({ address: baseSepoliaUsdc })).toBe(code);
    expect(await usdc.read.balanceOf([payer.address])).toBe(fundsAtomic);
  });
});

describe('receiveWithAuthorization', () => {
  it.each([
    ['(v, r, s)', withParts],
    ['(bytes signature)', withBytes],
  ] as const)('%s is for the payee alone, and no transfer', async (_, argumentsOf) => {
    const payer = await usdc.newPayer();
    const payee = usdc.relayer;
    const before = await usdc.read.balanceOf([payee]);
    const message = await usdc.authorize(payer.address, { to: payee });
    const receive = {
      domain: signingDomain,
      types: signingTypes,
      primaryType: 'ReceiveWithAuthorization',
    } as const;
    const signature = await payer.signTypedData({ ...receive, message });
    const args = argumentsOf(message, signature);

    const stranger = newAccount().address;
    expect(await usdc.answer('receiveWithAuthorization', args, { account: stranger })).toBe(
      'FiatTokenV2: caller must be the payee',
    );
    expect(await usdc.settle('transferWithAuthorization', withBytes(message, signature))).toBe(
      invalidSignature,
    );
    await usdc.send('receiveWithAuthorization', args);
    expect((await usdc.read.balanceOf([payee])) - before).toBe(message.value);
    expect(await usdc.answer('receiveWithAuthorization', args)).toBe(authorizationUsed);
  });
});

describe('cancelAuthorization', () => {
  it.each(['(v, r, s)', '(bytes signature)'])('%s ends a nonce for good', async (overload) => {
    const payer = await usdc.newPayer();
    const signed = await usdc.authorize(payer.address);
    const { from: authorizer, nonce } = signed;
    const cancel = {
      domain: signingDomain,
      types: signingTypes,
      primaryType: 'CancelAuthorization',
    } as const;
    const message = { authorizer, nonce };
    const argumentsOf = (signature: Hex) =>
      overload === '(v, r, s)'
        ? ([authorizer, nonce, ...parts(signature)] as const)
        : ([authorizer, nonce, signature] as const);

    const foreign = argumentsOf(await newAccount().signTypedData({ ...cancel, message }));
    expect(await usdc.answer('cancelAuthorization', foreign)).toBe(invalidSignature);
    const own = argumentsOf(await payer.signTypedData({ ...cancel, message }));
    const hash = await usdc.send('cancelAuthorization', own);

    expect(await usdc.eventsOf(hash)).toEqual([
      { eventName: 'AuthorizationCanceled', args: { authorizer, nonce } },
    ]);
    expect(
      await usdc.settle('transferWithAuthorization', withBytes(signed, await signTransfer(payer, signed))),
    ).toBe(authorizationUsed);
    expect(await usdc.answer('cancelAuthorization', own)).toBe(authorizationUsed);
    expect(await usdc.read.balanceOf([authorizer])).toBe(fundsAtomic);
  });
});

describe('ERC-20', () => {
  it('transfer, approve and transferFrom move what they say and no more', async () => {
    const [owner, spender, payee] = [await usdc.newPayer(), newAccount().address, newAccount().address];
    const by = { account: owner.address };
    await usdc.client.impersonateAccount({ address: owner.address });
    await usdc.client.impersonateAccount({ address: spender });
    for (const address of [owner.address, spender])
      await fundAccount(usdc.rpcUrl, { address, wei: 10n ** 18n });

    await usdc.send('transfer', [payee, 1_000n], owner.address);
    await usdc.send('approve', [spender, 300n], owner.address);
    await usdc.send('increaseAllowance', [spender, 50n], owner.address);
    await usdc.send('decreaseAllowance', [spender, 100n], owner.address);
    await usdc.send('transferFrom', [owner.address, payee, 200n], spender);

    expect(await usdc.read.balanceOf([payee])).toBe(1_200n);
    expect(await usdc.read.balanceOf([owner.address])).toBe(fundsAtomic - 1_200n);
    expect(await usdc.read.allowance([owner.address, spender])).toBe(50n);
    const spent = await usdc.answer('transferFrom', [owner.address, payee, 51n], { account: spender });
    expect(spent).toBe('ERC20: transfer amount exceeds allowance');
    expect(await usdc.answer('transfer', [payee, fundsAtomic], by)).toBe(
      'ERC20: transfer amount exceeds balance',
    );
    expect(await usdc.answer('transfer', [zeroAddress, 1n], by)).toBe('ERC20: transfer to the zero address');
    expect(await usdc.answer('approve', [zeroAddress, 1n], by)).toBe('ERC20: approve to the zero address');
    const fromNobody = await usdc.answer('transferFrom', [zeroAddress, payee, 0n], by);
    expect(fromNobody).toBe('ERC20: transfer from the zero address');
    const byNobody = await usdc.answer('approve', [spender, 1n], { account: zeroAddress });
    expect(byNobody).toBe('ERC20: approve from the zero address');
    const below = await usdc.answer('decreaseAllowance', [spender, 51n], by);
    expect(below).toBe('ERC20: decreased allowance below zero');
  });
});

describe('permit', () => {
  const permit = { domain: signingDomain, types: signingTypes, primaryType: 'Permit' } as const;

  it.each(['(v, r, s)', '(bytes signature)'])('%s sets an allowance once, in order', async (overload) => {
    const [owner, spender] = [await usdc.newPayer(), newAccount().address];
    const deadline = (await usdc.chainNow()) + 600n;
    const message = { owner: owner.address, spender, value: 700n, nonce: 0n, deadline };
    const argumentsOf = (signature: Hex, value = message.value) => {
      const tail = overload === '(v, r, s)' ? parts(signature) : [signature];
      return [owner.address, spender, value, deadline, ...tail];
    };
    const signature = await owner.signTypedData({ ...permit, message });
    const early = await owner.signTypedData({ ...permit, message: { ...message, nonce: 1n } });
    const foreign = await newAccount().signTypedData({ ...permit, message });

    const refused = 'EIP2612: invalid signature';
    expect(await usdc.settle('permit', argumentsOf(foreign))).toBe(refused);
    expect(await usdc.settle('permit', argumentsOf(early))).toBe(refused);
    expect(await usdc.settle('permit', argumentsOf(signature, 701n))).toBe(refused);
    const late = await usdc.answer('permit', argumentsOf(signature), { time: deadline + 1n });
    expect(late).toBe('FiatTokenV2: permit is expired');
    expect(await usdc.answer('permit', argumentsOf(signature), { time: deadline })).toBe('accepted');
    const hash = await usdc.send('permit', argumentsOf(signature));

    expect(await usdc.eventsOf(hash)).toEqual([
      { eventName: 'Approval', args: { owner: owner.address, spender, value: 700n } },
    ]);
    expect(await usdc.read.allowance([owner.address, spender])).toBe(700n);
    expect(await usdc.read.nonces([owner.address])).toBe(1n);
    expect(await usdc.settle('permit', argumentsOf(signature))).toBe(refused);
    expect(await usdc.settle('permit', argumentsOf(early))).toBe('accepted');
  });
});

describe('a blacklisted account', () => {
  it.each(['payer', 'payee'] as const)(
    'as %s is refused by each transfer, until it is none any more',
    async (who) => {
      const [payer, payee] = [await usdc.newPayer(), newAccount().address];
      const account = { payer: payer.address, payee }[who];
      const refused = 'Blacklistable: account is blacklisted';
      const signed = await usdc.authorize(payer.address, { to: payee });
      const signature = await signTransfer(payer, signed);
      const args = withParts(signed, signature);
      const answers = () =>
        Promise.all([
          usdc.answer('transfer', [payee, 1n], { account: payer.address }),
          usdc.answer('transferFrom', [payer.address, payee, 0n]),
          usdc.answer('transferWithAuthorization', args),
          usdc.answer('transferWithAuthorization', withBytes(signed, signature)),
          usdc.read.isBlacklisted([account]),
        ]);
      expect(await answers()).toEqual([...Array(4).fill('accepted'), false]);

      const hash = await usdc.send('blacklist', [account]);
      expect(await usdc.eventsOf(hash)).toEqual([{ eventName: 'Blacklisted', args: { account } }]);
      expect(await answers()).toEqual([...Array(4).fill(refused), true]);
      expect(await usdc.read.balanceOf([payer.address])).toBe(fundsAtomic);
      expect(await usdc.settle('transferWithAuthorization', args)).toBe(refused);
      expect(await usdc.read.authorizationState([signed.from, signed.nonce])).toBe(false);

      await usdc.send('unBlacklist', [account]);
      expect(await answers()).toEqual([...Array(4).fill('accepted'), false]);
      expect(await usdc.settle('transferWithAuthorization', args)).toBe('accepted');
      expect(await usdc.read.balanceOf([payer.address])).toBe(fundsAtomic - signed.value);
    },
  );

  it('is the token itself, from the beginning', async () => {
    expect(await usdc.read.isBlacklisted([baseSepoliaUsdc])).toBe(true);
  });
});
