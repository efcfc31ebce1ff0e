import { ExactEvmScheme } from '@x402/evm/exact/facilitator';
import * as fc from 'fast-check';
import { type Hex, hashTypedData, recoverTypedDataAddress } from 'viem';
import { describe, expect, it } from 'vitest';
import vectors from '../../../test/vectors/eip3009.json' with { type: 'json' };
import { transferDigest } from './eip3009-digest.ts';
import { type Authorization, isSignedByPayer, transferTypedData } from './exact.ts';
import { type Network, networks } from '../networks.ts';
import {
  anyAuthorization,
  anyMutation,
  anyNetwork,
  halfOrder,
  highTwin,
  payers,
  type Presented,
  shortForm,
  sign,
  withV,
} from '../payments/payments.fixture.ts';
import { loadNativeBackend, loadSignatureBackend, loadWasmBackend } from './signature-backend.ts';

const wasm = await loadWasmBackend();
const chosen = await loadSignatureBackend();
const backends = chosen.name === 'native' ? [loadNativeBackend(), wasm] : [wasm];

const anyPayer = fc.constantFrom(...payers);

describe.each(backends)('a signature checked by the $name build', (backend) => {
  const isSigned = ({ network, payment }: Presented) => isSignedByPayer(network, payment, backend);

  it('is good for whatever a payer signs', async () => {
    await fc.assert(
      fc.asyncProperty(anyNetwork, anyPayer, anyAuthorization, async (network, payer, authorization) => {
        expect(isSigned(await sign(network, payer, authorization))).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('is judged as viem judges it, valid or changed, but for what the token refuses', async () => {
    await fc.assert(
      fc.asyncProperty(
        anyNetwork,
        anyPayer,
        anyAuthorization,
        anyMutation,
        async (network, payer, authorization, mutate) => {
          const presented = mutate(await sign(network, payer, authorization));
          const expected = (await viemAccepts(presented)) && !isRefusedByToken(presented);
          expect(isSigned(presented)).toBe(expected);
        },
      ),
      { numRuns: 300 },
    );
  });

  it("is judged as x402's own facilitator judges it, valid or changed, but for what the token refuses", async () => {
    await fc.assert(
      fc.asyncProperty(anyPayer, anyAuthorization, anyMutation, async (payer, authorization, mutate) => {
        const lasting = { ...authorization, validAfter: 0n, validBefore: 2n ** 64n };
        const presented = mutate(await sign(networks.sandbox, payer, lasting));
        // A start before 1970 is none: on the wire it could not be written, and x402 compares it as a number.
        fc.pre(presented.payment.authorization.validAfter >= 0n);
        const expected = (await facilitatorAccepts(presented)) && !isRefusedByToken(presented);
        expect(isSigned(presented)).toBe(expected);
      }),
      { numRuns: 200 },
    );
  });

  it('of s in the upper half is refused, as viem does not (EIP-2)', async () => {
    const presented = await changed(highTwin);
    expect(await viemAccepts(presented)).toBe(true);
    expect(await facilitatorAccepts(presented)).toBe(true);
    expect(isSigned(presented)).toBe(false);
  });

  it('with v of 0 or 1 is refused, as viem does not: ECRecover of the token takes 27 and 28', async () => {
    const presented = await changed((signature) => withV(signature, signature.endsWith('1b') ? 0 : 1));
    expect(await viemAccepts(presented)).toBe(true);
    expect(await facilitatorAccepts(presented)).toBe(true);
    expect(isSigned(presented)).toBe(false);
  });

  it('in the short form is refused (EIP-2098)', async () => {
    expect(isSigned(await changed(shortForm))).toBe(false);
  });

  it('of a contract wallet is refused, whatever its contract says (EIP-1271)', async () => {
    for (const longer of ['', '01']) {
      const presented = await changed((signature) => `${signature}${longer}`);
      presented.payment.authorization.to = presented.payment.authorization.from;
      expect(await facilitatorAccepts(presented, { payerIsContract: true })).toBe(true);
      expect(isSigned(presented)).toBe(false);
    }
  });

  it.each(['0x', '0x1b', `0x${'zz'.repeat(65)}`, '00'.repeat(66)])(
    'that is no signature (%j) is refused',
    async (text) => {
      expect(isSigned(await changed(() => text as Hex))).toBe(false);
    },
  );

  it.each(vectors.vectors)('vector: $name', (vector) => {
    const { network, authorization } = readVector(vector);
    const payment = { authorization, signature: vector.signature as Hex };
    expect(`0x${transferDigest(network, authorization)?.toString('hex')}`).toBe(vector.digest);
    expect(isSigned({ network, payment })).toBe(vector.verdict === 'accepted');
  });
});

it.each(vectors.vectors)("vector's digest is viem's: $name", (vector) => {
  const { network, authorization } = readVector(vector);
  expect(hashTypedData(transferTypedData(network, authorization))).toBe(vector.digest);
});

/** What the token's ECRecover refuses and viem does not: s above half the order, v other than 27 and 28. */
function isRefusedByToken({ payment: { signature } }: Presented): boolean {
  const s = BigInt(`0x0${signature.slice(66, 130)}`);
  return s > halfOrder || !['1b', '1c'].includes(signature.slice(130));
}

async function changed(change: (signature: Hex) => Hex): Promise<Presented> {
  const [payer, [authorization]] = [payers[0], fc.sample(anyAuthorization, 1)];
  if (!payer || !authorization) throw new Error('no sample');
  const lasting = { ...authorization, validAfter: 0n, validBefore: 2n ** 64n };
  const { network, payment } = await sign(networks.sandbox, payer, lasting);
  return { network, payment: { ...payment, signature: change(payment.signature) } };
}

async function viemAccepts({ network, payment }: Presented): Promise<boolean> {
  try {
    const { signature, authorization } = payment;
    const signer = await recoverTypedDataAddress({ ...transferTypedData(network, authorization), signature });
    return signer === authorization.from;
  } catch {
    return false;
  }
}

const code = '0x60';
const isValidSignature = '0x1626ba7e';
const offline = () => Promise.reject(new Error('offline'));

/** The verdict of `@x402/evm`, with a chain on which every transfer goes through. */
async function facilitatorAccepts(
  { network, payment }: Presented,
  { payerIsContract = false } = {},
): Promise<boolean> {
  const facilitator = new ExactEvmScheme({
    getAddresses: () => [],
    getCode: async ({ address }) => (address === network.asset.address || payerIsContract ? code : undefined),
    readContract: async ({ functionName }) =>
      functionName === 'isValidSignature' ? isValidSignature : undefined,
    verifyTypedData: offline,
    writeContract: offline,
    sendTransaction: offline,
    waitForTransactionReceipt: offline,
  });
  const { from, to, value, validAfter, validBefore, nonce } = payment.authorization;
  const requirements = {
    scheme: 'exact',
    network: network.id,
    amount: value.toString(),
    asset: network.asset.address,
    payTo: to,
    maxTimeoutSeconds: 120,
    extra: { name: network.asset.name, version: network.asset.version },
  };
  const authorization = {
    from,
    to,
    nonce,
    value: value.toString(),
    validAfter: validAfter.toString(),
    validBefore: validBefore.toString(),
  };
  const payload = {
    x402Version: 2,
    accepted: requirements,
    payload: { signature: payment.signature, authorization },
  };
  try {
    return (await facilitator.verify(payload, requirements)).isValid;
  } catch {
    return false;
  }
}

function readVector({ domain, message }: (typeof vectors.vectors)[number]) {
  const { name, version, chainId, verifyingContract } = domain;
  const network: Network = {
    id: `eip155:${chainId}`,
    chainId,
    asset: { address: verifyingContract as Hex, name, version, currency: 'USDC' },
  };
  const authorization: Authorization = {
    from: message.from as Hex,
    to: message.to as Hex,
    value: BigInt(message.value),
    validAfter: BigInt(message.validAfter),
    validBefore: BigInt(message.validBefore),
    nonce: message.nonce as Hex,
  };
  return { network, authorization };
}
