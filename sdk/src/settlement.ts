/** What a seller says became of a payment, in the header of either version of x402. */
export interface PaymentSettlement {
  success: boolean;
  /** Why not, in the words of the x402 specification; `settlement_pending` is not the last word. */
  errorReason?: string;
  /** Empty where there is none. */
  transaction: string;
  network: string;
  payer?: string;
}

/**
 * Sellers name the same faults differently: the specification's section 9 has one list, version 1 and the SDK of version 2
 * others. What isn't here is passed on as it came.
 */
const otherNames: Readonly<Record<string, readonly string[]>> = {
  insufficient_funds: ['invalid_exact_evm_insufficient_balance', 'permit2_insufficient_balance'],
  invalid_exact_evm_payload_authorization_valid_after: ['permit2_not_yet_valid', 'permit2_payment_too_early'],
  invalid_exact_evm_payload_authorization_valid_before: ['permit2_deadline_expired'],
  invalid_exact_evm_payload_authorization_value_mismatch: [
    'invalid_exact_evm_payload_authorization_value',
    'invalid_exact_evm_authorization_value',
    'permit2_amount_mismatch',
    'permit2_2612_amount_mismatch',
    'permit2_invalid_amount',
  ],
  invalid_exact_evm_payload_recipient_mismatch: [
    'invalid_exact_evm_recipient_mismatch',
    'invalid_permit2_recipient_mismatch',
    'permit2_invalid_destination',
  ],
  invalid_exact_evm_payload_signature: [
    'invalid_exact_evm_signature',
    'invalid_exact_evm_failed_to_parse_signature',
    'invalid_permit2_signature',
    'permit2_invalid_owner',
    'eip6492_factory_not_allowed',
  ],
  invalid_network: ['invalid_exact_evm_network_mismatch'],
  invalid_payload: [
    'unsupported_payload_type',
    'invalid_permit2_spender',
    'invalid_eip2612_extension_format',
    'invalid_erc20_approval_extension_format',
    'erc20_approval_from_mismatch',
    'erc20_approval_asset_mismatch',
    'erc20_approval_spender_not_permit2',
    'erc20_approval_tx_wrong_target',
    'erc20_approval_tx_wrong_selector',
    'erc20_approval_tx_wrong_spender',
    'erc20_approval_tx_invalid_calldata',
    'erc20_approval_tx_signer_mismatch',
    'erc20_approval_tx_invalid_signature',
    'erc20_approval_tx_parse_failed',
    'eip2612_asset_mismatch',
    'eip2612_deadline_expired',
    'eip2612_from_mismatch',
    'eip2612_spender_not_permit2',
  ],
  invalid_payment_requirements: [
    'invalid_exact_evm_missing_eip712_domain',
    'invalid_exact_evm_token_name_mismatch',
    'invalid_exact_evm_token_version_mismatch',
    'invalid_exact_evm_eip3009_not_supported',
    'asset_not_deployed_contract',
    'permit2_token_mismatch',
    'permit2_proxy_not_deployed',
  ],
  invalid_scheme: ['invalid_exact_evm_scheme'],
  invalid_transaction_state: [
    'invalid_exact_evm_nonce_already_used',
    'invalid_exact_evm_transaction_failed',
    'invalid_exact_evm_transaction_simulation_failed',
    'invalid_exact_evm_transfer_event_mismatch',
    'permit2_simulation_failed',
    'permit2_invalid_nonce',
    'smart_wallet_deployment_failed',
    'erc20_approval_tx_failed',
    'erc20_approval_broadcast_failed',
  ],
};
const specificationNames = new Map(
  Object.entries(otherNames).flatMap(([name, others]) => others.map((other) => [other, name] as const)),
);

/** Reads `PAYMENT-RESPONSE`, or `X-PAYMENT-RESPONSE` of version 1. Nothing where there is none that can be read. */
export function readSettlement(headers: Headers): PaymentSettlement | undefined {
  const value = headers.get('payment-response') ?? headers.get('x-payment-response');
  if (value === null) return undefined;
  let said: unknown;
  try {
    said = JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(value), (byte) => byte.charCodeAt(0))));
  } catch {
    return undefined;
  }
  if (said === null || typeof said !== 'object' || !('success' in said)) return undefined;
  const text = (member: string) => {
    const found: unknown = Reflect.get(said, member);
    return typeof found === 'string' ? found : undefined;
  };
  const reason = text('errorReason');
  const payer = text('payer');
  return {
    success: said.success === true,
    transaction: text('transaction') ?? '',
    network: text('network') ?? '',
    ...(reason === undefined ? {} : { errorReason: specificationNames.get(reason) ?? reason }),
    ...(payer === undefined ? {} : { payer }),
  };
}
