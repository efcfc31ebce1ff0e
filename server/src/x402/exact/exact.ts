import type { Address, Hex } from 'viem';
import { limits } from '../../kernel/limits.ts';
import { isSameAddress } from './checksum-address.ts';
import { type Authorization, transferDigest } from './eip3009-digest.ts';
import { writeHex } from './hex.ts';
import type { Network } from '../networks.ts';
import { recoverAddress } from './secp256k1.ts';
import type { SignatureBackend } from './signature-backend.ts';

export type { Authorization };

/** A payment of scheme `exact` with `eip3009`, read but not yet believed. */
export interface ExactPayment {
  network: string;
  asset: Address;
  authorization: Authorization;
  signature: Hex;
}

/** What one priced call costs: one entry of a 402's `accepts`. */
export interface Terms {
  network: Network;
  amount: bigint;
  payTo: Address;
  maxTimeoutSeconds: number;
}

type CreditFault =
  | 'amount_mismatch'
  | 'audience'
  | 'expiry'
  | 'key'
  | 'not_before'
  | 'recipient_mismatch'
  | 'signature';

/** A reason of x402's own list (specification v2, section 9), for `error` in the 402; of credits, in words of its form. */
export type ExactFault =
  | 'insufficient_funds'
  | 'invalid_exact_evm_payload_authorization_valid_after'
  | 'invalid_exact_evm_payload_authorization_valid_before'
  | 'invalid_exact_evm_payload_authorization_value_mismatch'
  | 'invalid_exact_evm_payload_recipient_mismatch'
  | 'invalid_exact_evm_payload_signature'
  | 'invalid_network'
  | 'invalid_payment_requirements'
  | 'invalid_transaction_state';

/** What speaks against a payment by any of our rails. */
export type PaymentFault = ExactFault | `invalid_exact_credits_payload_${CreditFault}`;

/** The EIP-712 message that `transferWithAuthorization` checks (EIP-3009). */
export function transferTypedData(network: Network, authorization: Authorization) {
  return {
    domain: {
      name: network.asset.name,
      version: network.asset.version,
      chainId: network.chainId,
      verifyingContract: network.asset.address,
    },
    types: {
      TransferWithAuthorization: [
        { name: 'from', type: 'address' },
        { name: 'to', type: 'address' },
        { name: 'value', type: 'uint256' },
        { name: 'validAfter', type: 'uint256' },
        { name: 'validBefore', type: 'uint256' },
        { name: 'nonce', type: 'bytes32' },
      ],
    },
    primaryType: 'TransferWithAuthorization',
    message: authorization,
  } as const;
}

/**
 * Compares a payment with the terms of what it is to buy. Scheme `exact`: the amount is exactly the price.
 * `workSeconds` is what the call may still need; a payment that runs out before that can't be settled. One that
 * lasts for longer than anybody asked for is refused too: it could be charged when its stored answer is gone.
 */
export function findTermsFault(
  payment: ExactPayment,
  terms: Terms,
  now: bigint,
  workSeconds: number,
): ExactFault | undefined {
  const { authorization } = payment;
  if (payment.network !== terms.network.id) return 'invalid_network';
  if (!isSameAddress(payment.asset, terms.network.asset.address)) return 'invalid_payment_requirements';
  if (!isSameAddress(authorization.to, terms.payTo)) return 'invalid_exact_evm_payload_recipient_mismatch';
  if (authorization.value !== terms.amount) return 'invalid_exact_evm_payload_authorization_value_mismatch';
  // The token compares with its block's time (EIP-3009), which is before ours, and wants to be past it.
  if (authorization.validAfter > now - BigInt(limits.validAfterMarginSeconds))
    return 'invalid_exact_evm_payload_authorization_valid_after';
  const latest = now + BigInt(limits.paymentValiditySecondsMax);
  if (authorization.validBefore < now + BigInt(workSeconds) || authorization.validBefore > latest)
    return 'invalid_exact_evm_payload_authorization_valid_before';
  return undefined;
}

const signatureBytes = 65;

/**
 * Whether the payer itself signed, with a key. Contract wallets (EIP-1271, EIP-6492) are refused for now, and so is
 * whatever the token contract would refuse: exactly r, s and v, so no short form (EIP-2098) either.
 */
export function isSignedByPayer(
  network: Network,
  payment: Pick<ExactPayment, 'authorization' | 'signature'>,
  backend?: SignatureBackend,
): boolean {
  const signature = Buffer.allocUnsafe(signatureBytes);
  if (!writeHex(signature, 0, payment.signature, signatureBytes)) return false;
  const digest = transferDigest(network, payment.authorization);
  const signer = digest && recoverAddress(digest, signature, backend);
  return signer?.toString('hex') === payment.authorization.from.slice(2).toLowerCase();
}
