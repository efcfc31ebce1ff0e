import { parseSignature, toHex, type Address, type Hex } from 'viem';
import { generatePrivateKey, privateKeyToAccount, type PrivateKeyAccount } from 'viem/accounts';
import { baseSepolia } from 'viem/chains';
import { baseSepoliaUsdc } from '../../src/embedded/index.ts';

/** What EIP-3009 has a payer sign. */
export interface Authorization {
  from: Address;
  to: Address;
  value: bigint;
  validAfter: bigint;
  validBefore: bigint;
  nonce: Hex;
}

/** The EIP-712 domain of the token at Base Sepolia's address. */
export const signingDomain = {
  name: 'USDC',
  version: '2',
  chainId: baseSepolia.id,
  verifyingContract: baseSepoliaUsdc,
};

const authorizationFields = [
  { name: 'from', type: 'address' },
  { name: 'to', type: 'address' },
  { name: 'value', type: 'uint256' },
  { name: 'validAfter', type: 'uint256' },
  { name: 'validBefore', type: 'uint256' },
  { name: 'nonce', type: 'bytes32' },
] as const;

/** The typed data of EIP-3009 and EIP-2612, by primary type. */
export const signingTypes = {
  TransferWithAuthorization: authorizationFields,
  ReceiveWithAuthorization: authorizationFields,
  CancelAuthorization: [
    { name: 'authorizer', type: 'address' },
    { name: 'nonce', type: 'bytes32' },
  ],
  Permit: [
    { name: 'owner', type: 'address' },
    { name: 'spender', type: 'address' },
    { name: 'value', type: 'uint256' },
    { name: 'nonce', type: 'uint256' },
    { name: 'deadline', type: 'uint256' },
  ],
} as const;

/** A key that nobody used before. */
export function newAccount(): PrivateKeyAccount {
  return privateKeyToAccount(generatePrivateKey());
}

/** 32 random bytes. */
export function newNonce(): Hex {
  return toHex(crypto.getRandomValues(new Uint8Array(32)));
}

/** Signs a payment, as a wallet does. */
export function signTransfer(payer: PrivateKeyAccount, message: Authorization): Promise<Hex> {
  return payer.signTypedData({
    domain: signingDomain,
    types: signingTypes,
    primaryType: 'TransferWithAuthorization',
    message,
  });
}

/** The arguments of the seven-argument overloads. */
export function withBytes(signed: Authorization, signature: Hex) {
  const { from, to, value, validAfter, validBefore, nonce } = signed;
  return [from, to, value, validAfter, validBefore, nonce, signature] as const;
}

/** The arguments of the nine-argument overloads. */
export function withParts(signed: Authorization, signature: Hex) {
  const { from, to, value, validAfter, validBefore, nonce } = signed;
  return [from, to, value, validAfter, validBefore, nonce, ...parts(signature)] as const;
}

/** v (27 or 28), r and s of a 65-byte signature. */
export function parts(signature: Hex) {
  const { r, s, yParity } = parseSignature(signature);
  return [27 + yParity, r, s] as const;
}
