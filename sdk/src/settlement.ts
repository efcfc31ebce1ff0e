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
const specificationNames = new Map([
  ['invalid_exact_evm_signature', 'invalid_exact_evm_payload_signature'],
  ['invalid_exact_evm_failed_to_parse_signature', 'invalid_exact_evm_payload_signature'],
  ['invalid_exact_evm_recipient_mismatch', 'invalid_exact_evm_payload_recipient_mismatch'],
  ['invalid_exact_evm_payload_authorization_value', 'invalid_exact_evm_payload_authorization_value_mismatch'],
  ['invalid_exact_evm_authorization_value', 'invalid_exact_evm_payload_authorization_value_mismatch'],
  ['invalid_exact_evm_insufficient_balance', 'insufficient_funds'],
  ['invalid_exact_evm_network_mismatch', 'invalid_network'],
  ['invalid_exact_evm_scheme', 'invalid_scheme'],
  ['invalid_exact_evm_nonce_already_used', 'invalid_transaction_state'],
  ['invalid_exact_evm_transaction_failed', 'invalid_transaction_state'],
  ['invalid_exact_evm_transaction_simulation_failed', 'invalid_transaction_state'],
  ['invalid_exact_evm_missing_eip712_domain', 'invalid_payment_requirements'],
  ['invalid_exact_evm_token_name_mismatch', 'invalid_payment_requirements'],
  ['invalid_exact_evm_token_version_mismatch', 'invalid_payment_requirements'],
  ['asset_not_deployed_contract', 'invalid_payment_requirements'],
]);

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
