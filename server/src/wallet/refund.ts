import { isAddressEqual } from 'viem';
import type { WriteContext } from '../db/index.ts';
import {
  type Chain,
  concludeUndone,
  findLapsed,
  findNetwork,
  findOwed,
  finishDelivery,
  type Payment,
  refundAuthorization,
  refundOf,
  renewRefund,
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

/**
 * Gives back what was paid upfront and never delivered, when nobody has come for the answer. Gives how many it gave back. One that
 * can't be signed for stays for the next round, and keeps no other from its refund; then this throws.
 */
export async function refundUndelivered(context: WriteContext): Promise<number> {
  let count = 0;
  const failures: unknown[] = [];
  for (const owed of await findOwed(context)) {
    try {
      if (await refundOne({ ...context, scope: owed.environmentId }, owed)) count += 1;
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return count;
}

async function refundOne(context: WriteContext, owed: Payment): Promise<boolean> {
  const refund = await signRefund(context, owed);
  // Paid upfront to an address outside, it can't be given back: its payer may still come for it.
  const taken = refund && (await takeDelivery(context, owed));
  return taken
    ? finishDelivery(context, taken, { kind: 'failed', failure: 'not delivered in time', refund })
    : false;
}

/**
 * Looks after the refunds of one chain that can't be paid as they are: signs those again that have run out unpaid, until they are paid, and
 * ends those whose payment turned out not to be settled. Gives how many it signed. One wallet that can't be opened keeps no other's; then this throws.
 */
export async function tendRefunds(context: WriteContext, chain: Chain): Promise<number> {
  await concludeUndone({ context, chain });
  let count = 0;
  const failures: unknown[] = [];
  for (const lapsed of await findLapsed({ context, chain })) {
    try {
      const wallet = await findWallet(context.db, lapsed.refund.environmentId, chain.network.id);
      if (!wallet || !isAddressEqual(wallet.address, lapsed.next.from))
        throw new Error(`no wallet signs refund ${lapsed.refund.id} again`);
      const signature = await signTransfer(context, wallet, chain.network, lapsed.next);
      if (await renewRefund(context, lapsed, signature)) count += 1;
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return count;
}
