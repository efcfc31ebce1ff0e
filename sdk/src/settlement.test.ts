import { readFile } from 'node:fs/promises';
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

  it('gives each reason that the installed x402 packages have for scheme exact a name that a caller knows', async () => {
    const reasons = await readReasons(import.meta.resolve('@x402/evm/exact/facilitator'));
    // Schemes that nobody pays by here, and what the specification has no word for: the payer is to approve Permit2 first.
    const others = /^invalid_batch_settlement_|^upto_|^invalid_upto_|^permit2_allowance_required$/;
    const ours = reasons.filter((reason) => !others.test(reason));
    expect(ours.length).toBeGreaterThan(40);
    const named = ours.map((errorReason) => [
      errorReason,
      read({ success: false, errorReason })?.errorReason,
    ]);
    expect(named.filter(([, name]) => !specified.has(name ?? ''))).toEqual([]);
  });

  it.each(['', '%%%', 'e30', encode(null), encode([]), encode('success'), encode({ success: 'yes' })])(
    'is never success where it is garbage: %s',
    (value) => {
      expect(readSettlement(new Headers({ 'payment-response': value }))?.success ?? false).toBe(false);
    },
  );
});

/** Section 9 of the specification, the reasons of exact and of any scheme; and the one that is not the last word. */
const specified = new Set([
  'insufficient_funds',
  'invalid_exact_evm_payload_authorization_valid_after',
  'invalid_exact_evm_payload_authorization_valid_before',
  'invalid_exact_evm_payload_authorization_value_mismatch',
  'invalid_exact_evm_payload_signature',
  'invalid_exact_evm_payload_recipient_mismatch',
  'invalid_network',
  'invalid_payload',
  'invalid_payment_requirements',
  'invalid_scheme',
  'invalid_transaction_state',
  'settlement_pending',
]);

/** The reasons that a module, and those that it imports from its own package, have constants for. */
async function readReasons(entry: string): Promise<string[]> {
  const seen = new Set<string>();
  const reasons = new Set<string>();
  const follow = async (url: string): Promise<void> => {
    if (seen.has(url)) return;
    seen.add(url);
    const source = await readFile(new URL(url), 'utf8');
    for (const [, reason = ''] of source.matchAll(/\bErr\w+ = "([a-z0-9_]+)"/g)) reasons.add(reason);
    for (const [, path = ''] of source.matchAll(/(?:from|import) "(\.[^"]+)"/g))
      await follow(new URL(path, url).href);
  };
  await follow(entry);
  return [...reasons];
}
