import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import { type Address, hashTypedData, type Hex } from 'viem';
import { privateKeyToAddress } from 'viem/accounts';

/** What one signing thread has to do. */
export interface SigningJob {
  file: string;
  count: number;
  /** Payers' private keys; they take turns. */
  keys: readonly Hex[];
  /** All of a payment but its `payload`: version, resource, terms and extensions, echoed as a stock client does. */
  envelope: { x402Version: 2; accepted: { amount: string; asset: string; payTo: Address } };
}

/** The part of the package that we use; it brings no types. */
interface Secp256k1 {
  ecdsaSign(digest: Uint8Array, key: Uint8Array): { signature: Uint8Array; recid: number };
}

const require = createRequire(import.meta.url);
const { ecdsaSign } = require('secp256k1') as Secp256k1;

/** Just below the longest that the gateway takes: longer than a run, also on a chain whose clock gains a second with each block. */
const validSeconds = 3_500;

/** The EIP-712 domain and type of EIP-3009, as the token on Base Sepolia has them. */
const types = {
  TransferWithAuthorization: [
    { name: 'from', type: 'address' },
    { name: 'to', type: 'address' },
    { name: 'value', type: 'uint256' },
    { name: 'validAfter', type: 'uint256' },
    { name: 'validBefore', type: 'uint256' },
    { name: 'nonce', type: 'bytes32' },
  ],
} as const;

/** Signs payments for the job's terms, each a value of `PAYMENT-SIGNATURE`. */
export function* signPayments(job: Omit<SigningJob, 'file'>, nowSeconds: number): Generator<string> {
  const { accepted } = job.envelope;
  const payers = job.keys.map((key) => ({
    key: Buffer.from(key.slice(2), 'hex'),
    from: privateKeyToAddress(key),
  }));
  const terms = { to: accepted.payTo, value: BigInt(accepted.amount), validAfter: 0n };
  const validBefore = BigInt(nowSeconds + validSeconds);
  const domain = {
    name: 'USDC',
    version: '2',
    chainId: 84_532,
    verifyingContract: accepted.asset as Address,
  };
  for (let index = 0; index < job.count; index++) {
    const payer = payers[index % payers.length];
    if (!payer) return;
    const nonce: Hex = `0x${randomBytes(32).toString('hex')}`;
    const message = { from: payer.from, ...terms, validBefore, nonce };
    const digest = hashTypedData({ domain, types, primaryType: 'TransferWithAuthorization', message });
    // The native build is some thirty times as fast as JavaScript, and a run may need fifty thousand.
    const { signature, recid } = ecdsaSign(Buffer.from(digest.slice(2), 'hex'), payer.key);
    const proof = `0x${Buffer.from(signature).toString('hex')}${(27 + recid).toString(16)}`;
    const authorization = {
      from: payer.from,
      to: terms.to,
      value: accepted.amount,
      validAfter: '0',
      validBefore: validBefore.toString(),
      nonce,
    };
    const payment = { ...job.envelope, payload: { signature: proof, authorization } };
    yield Buffer.from(JSON.stringify(payment)).toString('base64');
  }
}
