import type { Address, Hex } from 'viem';
import type { AgentId, DelegationId, EnvironmentId, Id, OutgoingPaymentId } from '../kernel/ids.ts';
import type { Authorization } from '../x402/index.ts';

/** `signed`: its header may be used until `validBefore`. `settled`: the chain took it. `released`: it never will. */
export type OutgoingPaymentState = 'released' | 'settled' | 'signed';

/** An x402 payment that a wallet here signed. */
export interface OutgoingPayment {
  environmentId: EnvironmentId;
  id: OutgoingPaymentId;
  agentId: AgentId;
  delegationId: DelegationId;
  decisionId: Id<'decision'>;
  holdId: Id<'hold'>;
  network: string;
  asset: Address;
  payer: Address;
  nonce: Hex;
  payTo: Address;
  amount: bigint;
  resource: string;
  validBefore: bigint;
  state: OutgoingPaymentState;
  transaction: string | null;
  createdAt: Date;
}

/** Servers' clocks may be behind ours; ten minutes, as the stock client has it. */
const validAfterSlackSeconds = 600n;

/** What the wallet signs for it. All of it is in the row, so that a retry signs the same again. */
export function authorizationOf(payment: OutgoingPayment): Authorization {
  return {
    from: payment.payer,
    to: payment.payTo,
    value: payment.amount,
    validAfter: BigInt(Math.floor(payment.createdAt.getTime() / 1000)) - validAfterSlackSeconds,
    validBefore: payment.validBefore,
    nonce: payment.nonce,
  };
}
