import { isAddressEqual } from 'viem';
import type { WriteContext } from '../db/index.ts';
import {
  findNetwork,
  findOwed,
  finishDelivery,
  type Payment,
  refundAuthorization,
  refundOf,
  takeDelivery,
} from '../x402/index.ts';
import { findWallet, signTransfer } from './wallet.ts';

/** A payment that gives this one back, signed by the wallet that was paid; nothing where that isn't one of ours. */
export async function signRefund(context: WriteContext, payment: Payment): Promise<Payment | undefined> {
  const network = findNetwork(payment.network);
  const wallet = network && (await findWallet(context.db, payment.environmentId, network.id));
  const now = context.clock.now();
  const authorization = refundAuthorization(payment, now);
  if (!wallet || !isAddressEqual(wallet.address, authorization.from)) return undefined;
  const signature = await signTransfer(context, wallet, network, authorization);
  return refundOf(payment, authorization, signature, now);
}

/** Gives back what was paid upfront and never delivered, when nobody has come for the answer. Gives how many it gave back. */
export async function refundUndelivered(context: WriteContext): Promise<number> {
  let count = 0;
  for (const owed of await findOwed(context)) {
    const scope = { ...context, scope: owed.environmentId };
    const refund = await signRefund(scope, owed);
    // A stream to an address outside can't be given back: its payer may still come for it.
    const taken = refund && (await takeDelivery(scope, owed));
    if (!taken) continue;
    const end = { kind: 'failed', failure: 'not delivered in time', refund } as const;
    if (await finishDelivery(scope, taken, end)) count += 1;
  }
  return count;
}
