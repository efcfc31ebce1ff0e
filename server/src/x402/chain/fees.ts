import { type AskRpc, quantityOf, resultOf, type RpcAnswer, type RpcCall } from './json-rpc.ts';
import { latestBlock, type ReceiptWatch } from './receipt-watch.ts';
import { readHeader } from './receipts.ts';

export interface Fees {
  maxFeePerGas: bigint;
  maxPriorityFeePerGas: bigint;
}

/**
 * How old a base fee may be that fees are made from: it rises by an eighth a block at most (EIP-1559), and twice what it was outlasts six.
 * A tip may be older: where it has become too low, the transaction waits, and is replaced by a dearer one.
 */
const baseFeeMsMax = 1_000;
const tipMsMax = 10_000;

/** Asks an RPC, and in the same request for what is missing of the present fees. */
export function createFeeReader(
  ask: AskRpc,
  watch: ReceiptWatch,
): (calls: readonly RpcCall[]) => Promise<{ answers: RpcAnswer[]; fees: Fees }> {
  let tip: { value: bigint; atMs: number } | undefined;

  return async (calls) => {
    const nowMs = performance.now();
    const seen = watch.latest();
    const header = seen && nowMs - seen.atMs < baseFeeMsMax ? seen.header : undefined;
    const isTipKnown = tip !== undefined && nowMs - tip.atMs < tipMsMax;
    const answers = await ask([
      ...calls,
      ...(header ? [] : [latestBlock]),
      ...(isTipKnown ? [] : [{ method: 'eth_maxPriorityFeePerGas', params: [] }]),
    ]);
    const asked = answers.splice(calls.length);
    const { baseFeePerGas } = header ?? readHeader(resultOf(asked.shift()));
    if (!isTipKnown) tip = { value: quantityOf(resultOf(asked.shift())), atMs: nowMs };
    const maxPriorityFeePerGas = tip?.value ?? 0n;
    return {
      answers,
      fees: { maxFeePerGas: baseFeePerGas * 2n + maxPriorityFeePerGas, maxPriorityFeePerGas },
    };
  };
}
