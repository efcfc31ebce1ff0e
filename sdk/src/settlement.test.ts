import { describe, expect, it } from 'vitest';
import { readSettlement } from './settlement.ts';

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64');
const read = (value: unknown, name = 'PAYMENT-RESPONSE') =>
  readSettlement(new Headers({ [name]: encode(value) }));

describe('what a seller says of a payment', () => {
  it.each(['PAYMENT-RESPONSE', 'X-PAYMENT-RESPONSE'])('is read from %s', (name) => {
    const said = { success: true, transaction: '0xab', network: 'base', payer: '0x1' };
    expect(read({ ...said, extensions: {} }, name)).toEqual(said);
  });

  it.each([
    ['insufficient_funds', 'insufficient_funds'],
    ['settlement_pending', 'settlement_pending'],
    ['invalid_exact_evm_insufficient_balance', 'insufficient_funds'],
    ['invalid_exact_evm_signature', 'invalid_exact_evm_payload_signature'],
    ['invalid_exact_evm_recipient_mismatch', 'invalid_exact_evm_payload_recipient_mismatch'],
    [
      'invalid_exact_evm_payload_authorization_value',
      'invalid_exact_evm_payload_authorization_value_mismatch',
    ],
    ['invalid_exact_evm_nonce_already_used', 'invalid_transaction_state'],
    ['a_reason_of_its_own', 'a_reason_of_its_own'],
  ])('gives the reason %s its name in the specification', (reason, name) => {
    expect(read({ success: false, errorReason: reason, transaction: '', network: 'base' })).toEqual({
      success: false,
      errorReason: name,
      transaction: '',
      network: 'base',
    });
  });

  it.each(['', '%%%', 'e30', encode(null), encode([]), encode('success'), encode({ success: 'yes' })])(
    'is never success where it is garbage: %s',
    (value) => {
      expect(readSettlement(new Headers({ 'payment-response': value }))?.success ?? false).toBe(false);
    },
  );
});
